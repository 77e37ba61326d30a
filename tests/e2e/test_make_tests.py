"""The generator of tests, run on small notebooks as a person would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "make_tests.py"
GOOD = ["#| default_exp thing", "#| test_imports\nimport math", '#| test root\nt = """a\n  b"""\nassert t == "a\\n  b" and math.sqrt(4) == 2']


def notebook(root: Path, *cells: str, name: str = "01_thing") -> None:
    code = [{"cell_type": "code", "metadata": {}, "source": c.splitlines(True), "outputs": []} for c in cells]
    (root / "nbs").mkdir(exist_ok=True)
    (root / "nbs" / f"{name}.ipynb").write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4}), encoding="utf-8")


def run(root: Path, *args: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, SCRIPT, *args, root], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_cells_become_functions_that_pass_and_stay_in_step(tmp_path: Path) -> None:
    notebook(tmp_path, *GOOD)
    assert run(tmp_path, "--check")[0] == 1  # not written yet
    assert run(tmp_path) == (0, "") and run(tmp_path, "--check") == (0, "")
    text = (tmp_path / "tests" / "test_thing.py").read_text(encoding="utf-8")
    assert "import math\n\n\ndef test_root() -> None:\n    t =" in text and '\n  b"""\n' in text  # the string is not indented
    scope: dict = {}
    exec(compile(text, "test_thing.py", "exec"), scope)
    scope["test_root"]()


def test_an_edited_a_stale_and_a_foreign_file_are_drift(tmp_path: Path) -> None:
    notebook(tmp_path, *GOOD)
    run(tmp_path)
    made = tmp_path / "tests" / "test_thing.py"
    (tmp_path / "tests" / "test_gone.py").write_text(made.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tests" / "test_hand.py").write_text("def test_x(): pass\n", encoding="utf-8")
    made.write_text(made.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    status, said = run(tmp_path, "--check")
    assert status == 1 and [f"test_{n}.py" in said for n in ("gone", "hand", "thing")] == [True] * 3
    run(tmp_path)
    assert sorted(p.name for p in (tmp_path / "tests").iterdir()) == ["test_hand.py", "test_thing.py"]  # a person's file stays
    assert "edited" not in made.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("#| test Two words\npass", "needs one name"),
        ("#| test\npass", "needs one name"),
        ("#| test root\npass", "a second"),
        ("#| test bad\nx = (", "no function body"),
        ("#| test bad\n# nothing", "no function body"),
        ("#| test bad\nfrom math import *", "no function body"),
        ("#| tests bad\npass", "neither"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, cell: str, words: str) -> None:
    notebook(tmp_path, *GOOD, cell)
    status, said = run(tmp_path)
    assert status == 1 and words in said and "nbs/01_thing.ipynb, cell 4" in said and "Traceback" not in said


def test_tests_without_a_module_and_two_notebooks_for_one(tmp_path: Path) -> None:
    notebook(tmp_path, *GOOD[1:])
    assert run(tmp_path)[0] == 1 and "default_exp" in run(tmp_path)[1]
    notebook(tmp_path, *GOOD)
    notebook(tmp_path, *GOOD, name="02_thing")
    assert run(tmp_path)[0] == 1 and "02_thing" in run(tmp_path)[1]
