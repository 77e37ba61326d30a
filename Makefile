# make demo   from nothing to a searched corpus        make test   every check, from nothing
# make lab    the course in JupyterLab                 make export what to run after editing a notebook
# make site   the course as web pages in _site/, for reading without JupyterLab
# Each does its own set-up in .venv. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
export PYTHON

.PHONY: demo test lab site export hooks clean

demo:
	@sh .ci/setup run
	@.venv/bin/two-towers demo

test:
	@sh .ci/setup dev
	@.venv/bin/python .ci/test.py

lab:
	@sh .ci/setup dev
	@root=; if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	JUPYTER_CONFIG_PATH=.ci .venv/bin/jupyter lab $$root --ServerApp.root_dir=. nbs/00_start.ipynb

site:
	@sh .ci/setup dev
	@.venv/bin/python .ci/make_site.py

export:
	@sh .ci/setup dev
	@.venv/bin/nbdev_clean && .venv/bin/python .ci/clean.py && .venv/bin/nbdev_export && .venv/bin/python .ci/make_tests.py && \
	.venv/bin/python .ci/make_exercises.py

hooks:
	@sh .ci/hooks

clean:
	rm -rf .venv _site build *.egg-info .pytest_cache .ruff_cache
