"""Your own documents in two commands: the real command line, in a process, on a folder that nobody has prepared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REAL = (sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())")
SMALL = ("--dim", "16", "--epochs", "1")
TOPICS = {"kettle": "descale the kettle with citric acid and rinse it twice", "garden": "water the roses early and cut them in March",
          "bicycle": "oil the chain and pump the tyres before a long ride", "bread": "knead the dough and let it rise in a warm place"}


def real(*argv: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command line."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*REAL, *map(str, argv)], capture_output=True, text=True, env=env, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "documents"
    (folder / "more").mkdir(parents=True)
    for name, text in TOPICS.items():
        (folder / "more" / f"{name}.md").write_text(f"# {name.title()}\n\n" + f"First of all {text}. Nothing else helps. " * 3, encoding="utf8")
    (folder / "faq.csv").write_text("id,text\nq7,The parking place is behind the house where the yellow line ends\n", encoding="utf8")
    (folder / "logo.png").write_bytes(b"\x89PNG")
    (folder / "damaged.ipynb").write_text("{", encoding="utf8")
    return folder


@pytest.fixture(scope="module")
def model(documents: Path) -> Path:
    out = documents.parent / "model"
    code, told, err = real("train", "--data", documents, "--out", out, *SMALL)
    assert code == 0, err
    assert "nothing was measured" in told and "1 files left out: no notebook" in err and "Traceback" not in err
    return out


def test_what_is_read_is_shown(documents: Path) -> None:
    code, told, _ = real("data", documents)
    assert code == 0 and "5 documents, 0 queries" in told
    assert "4 .md files read" in told and "other kinds not read (logo.png)" in told and "(damaged.ipynb)" in told


def test_a_search_answers_with_the_place(model: Path) -> None:
    for query, place in (("how to descale a kettle", "more/kettle.md#L1-L3"), ("oil for the chain", "more/bicycle.md#L1-L3"),
                         ("where is the parking place", "faq.csv#q7")):
        code, told, err = real("search", model, query)
        assert code == 0, err
        assert place in told.splitlines()[0], told
    code, told, _ = real("search", model, "warm dough", "-k", "1", "--json")
    assert code == 0 and "knead the dough" in json.loads(told)["hits"][0]["text"]


def test_two_passages_are_enough(tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "a.txt").write_text("only tea", encoding="utf8")
    (folder / "b.txt").write_text("only coffee", encoding="utf8")
    code, told, err = real("train", "--data", folder, "--out", tmp_path / "m", *SMALL)
    if code:
        assert (code, err.count("Traceback")) == (2, 0) and "no document of 12 words or more to pre-train on" in err
    else:
        code, told, _ = real("search", tmp_path / "m", "coffee")
        assert code == 0 and "b.txt#L1" in told.splitlines()[0]


def test_a_wrong_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    for name, why in (("nowhere", "no such file or folder"), ("empty", "an empty folder"), ("pictures", "1 files of other kinds not read (a.png)")):
        code, told, err = real("train", "--data", tmp_path / name, "--out", tmp_path / "m", *SMALL)
        assert (code, told, err.count("\n")) == (2, "", 1) and why in err, err
        assert not (tmp_path / "m").exists()
