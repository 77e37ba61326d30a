"""Every exercise: the solution passes, the stub does not, each known mistake gets the words meant for it. And its files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from two_towers.authoring import parse, proof
from two_towers.exercises import catalogue, check, code, read

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "make_exercises.py"
SOURCES = sorted((ROOT / "nbs" / "exercises").glob("lesson*/[!._]*.ipynb"))
NAMES = [f"{p.parent.name}/{p.stem}" for p in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_the_check_tells_right_from_wrong(path: Path) -> None:
    rows = {name: (good, verdict) for name, good, verdict in proof(parse(path))}
    bad = {name: verdict for name, (good, verdict) in rows.items() if not good}
    assert not bad and list(rows)[:2] == ["the solution", "the stub"] and len(rows) >= 4, bad


def test_every_source_is_in_the_package_and_nothing_else() -> None:
    assert [e.id for e in catalogue()] == NAMES


@pytest.mark.parametrize("exercise", catalogue(), ids=lambda e: e.id)
def test_the_solution_stands_in_the_solutions_alone(exercise) -> None:
    solved = set(code(read(ROOT / "exercises" / "solutions" / exercise.lesson / f"{exercise.name}.ipynb")))
    solution = next(c for c in solved if c.startswith("#| solution"))
    assert solution not in json.dumps(exercise.notebook) and solution not in code(exercise.notebook)
    assert "#| wrong" not in json.dumps(exercise.notebook)


@pytest.mark.parametrize("lesson", sorted({e.lesson for e in catalogue()}))
def test_a_solution_passes_as_a_learners_notebook(lesson: str, tmp_path: Path) -> None:
    exercise = next(e for e in catalogue() if e.lesson == lesson)
    (tmp_path / lesson).mkdir()
    shutil.copy(ROOT / "exercises" / "solutions" / lesson / f"{exercise.name}.ipynb", exercise.path(tmp_path))
    verdict = check(exercise, tmp_path)
    assert verdict.state == "done", verdict


def test_a_failed_check_shows_its_words_alone_and_fails_the_cell(tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    words, wrong = next(known for known in parse(SOURCES[0]).wrong.values() if known[1].strip())
    stub = json.dumps(catalogue()[0].notebook)
    shown = {}
    for name in ("untouched", "wrong"):
        notebook = nbformat.reads(stub, 4)
        if name == "wrong":  # the solution but for the known mistake
            cell = next(c for c in notebook.cells if c.source.startswith("#| stub"))
            cell.source = "\n\n\n".join([*parse(SOURCES[0]).of("solution"), wrong])
        with pytest.raises(nbclient.exceptions.CellExecutionError):
            nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3").execute()
        cell = next(c for c in notebook.cells if c.source.startswith("#| check"))
        shown[name] = [out.traceback for out in cell.outputs if out.output_type == "error"]
    unwritten = "Not yet: a stub still raises NotImplementedError: "
    assert [len(lines) for (lines,) in shown.values()] == [1, 1], shown
    assert shown["untouched"][0][0].startswith(unwritten) and len(shown["untouched"][0][0]) > len(unwritten), shown
    assert shown["wrong"][0][0].startswith("Not yet: ") and words in shown["wrong"][0][0], shown


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course with one exercise, as `make export` leaves it."""
    (tmp_path / "nbs" / "exercises" / "lesson1").mkdir(parents=True)
    shutil.copy(SOURCES[0], tmp_path / "nbs" / "exercises" / "lesson1")
    builds_on = tmp_path / "nbs" / f"{parse(SOURCES[0]).card['builds on']}.ipynb"
    builds_on.parent.mkdir(parents=True)
    builds_on.touch()
    assert generate(tmp_path) == (0, "")
    return tmp_path


def generate(root: Path, *args: str, ci: bool = True) -> tuple[int, str]:
    env = {"PATH": "", "PYTHONPATH": str(ROOT), **({"CI": "true"} if ci else {})}
    done = subprocess.run([sys.executable, SCRIPT, *args, root], capture_output=True, text=True, env=env)
    return done.returncode, done.stdout + done.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_learners_work_is_left_alone_and_is_drift_in_ci_alone(course: Path) -> None:
    stub, name = course / "exercises" / "lesson1" / SOURCES[0].name, f"exercises/lesson1/{SOURCES[0].name}"
    assert generate(course, "--check") == (0, "")
    edit(stub, "raise NotImplementedError", "return 42 #")
    mine = stub.read_bytes()
    status, said = generate(course, "--check", ci=False)
    assert status == 0 and said.startswith("note: ") and name in said and said.count("\n") == 1
    status, said = generate(course, "--check")
    assert status == 1 and name in said
    for ci in (True, False):
        status, said = generate(course, ci=ci)
        assert status == 0 and "a learner's work" in said and stub.read_bytes() == mine


def test_a_changed_source_is_drift_and_its_files_follow(course: Path) -> None:
    edit(course / "nbs" / "exercises" / "lesson1" / SOURCES[0].name, '\\"minutes\\": ', '\\"minutes\\": 9')
    made = [course / p / "lesson1" / f"{SOURCES[0].stem}.{end}" for p, end in (
        ("exercises", "ipynb"), ("exercises/solutions", "ipynb"), ("two_towers/exercise_stubs", "json"))]
    before = [p.read_bytes() for p in made]
    status, said = generate(course, "--check", ci=False)
    assert status == 1 and said.count("make export") == 3 and [p.read_bytes() for p in made] == before
    assert generate(course) == (0, "") and generate(course, "--check") == (0, "")
    assert all(p.read_bytes() != old for p, old in zip(made, before, strict=True))
    (course / "nbs" / "exercises" / "lesson1" / SOURCES[0].name).unlink()  # gone: so go its files, but not a learner's
    assert generate(course, "--check")[0] == 1 and generate(course) == (0, "") and not any(p.exists() for p in made)


def test_a_source_that_is_not_whole_is_named(course: Path) -> None:
    edit(course / "nbs" / "exercises" / "lesson1" / SOURCES[0].name, "#| check", "#| chekc")
    status, said = generate(course)
    assert status == 1 and SOURCES[0].name in said and "Traceback" not in said
