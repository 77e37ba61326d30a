"""Set-up with stand-ins for Python and pip: what it says, when it installs, and what it does after it was cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = r"""#!/bin/sh
# a stand-in: `-m venv` makes a .venv whose python is this very file, `-m pip` is written down
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "$(pwd -P)/.venv" > .venv/bin/pip; echo venv >> log;;
    "-m pip"*) echo "pip $*" >> log; [ ! -e refuse ];;
    *ensurepip*) [ ! -e no_venv ];;
    *"os, pip, sys"*) exit 0;;
    *) exec REAL "$@";;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder with spaces"
    (folder / ".ci").mkdir(parents=True)
    for name in ("settings.ini", "setup.py", "pyproject.toml", "constraints.txt", "Makefile", ".ci/setup", ".ci/hooks"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "python").write_text(PYTHON.replace("REAL", sys.executable), encoding="utf-8")
    (folder / "python").chmod(0o755)
    return folder


def setup(folder: Path, kind: str = "run", python: str = "./python") -> tuple[int, list[str]]:
    done = subprocess.run(["sh", ".ci/setup", kind], cwd=folder, env={**os.environ, "PYTHON": python}, capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()


def log(folder: Path) -> list[str]:
    lines = (folder / "log").read_text(encoding="utf-8").splitlines() if (folder / "log").exists() else []
    (folder / "log").unlink(missing_ok=True)
    return [line.split()[0] for line in lines]


def test_it_installs_once_and_again_when_a_requirement_changes(place: Path) -> None:
    assert setup(place)[0] == 0 and log(place) == ["venv", "pip"]
    assert setup(place) == (0, []) and log(place) == []
    assert setup(place, "dev")[0] == 0 and log(place) == ["pip"]
    assert setup(place) == (0, []) and log(place) == []  # the larger set-up holds the smaller
    with (place / "settings.ini").open("a", encoding="utf-8") as f:
        f.write("\n")
    assert setup(place)[0] == 0 and log(place) == ["pip"]


def test_a_set_up_that_was_cut_off_or_copied_is_begun_afresh(place: Path) -> None:
    (place / "refuse").touch()
    assert setup(place)[0] != 0 and log(place) == ["venv", "pip"] and not (place / ".venv" / ".done-run").exists()
    (place / "refuse").unlink()
    assert setup(place)[0] == 0 and log(place) == ["venv", "pip"]
    moved = place.with_name("moved")
    place.rename(moved)
    assert setup(moved)[0] == 0 and log(moved) == ["venv", "pip"]
    (moved / ".venv" / "bin" / "python").unlink()
    assert setup(moved)[0] == 0 and log(moved) == ["venv", "pip"]


def test_what_is_missing_is_said_in_one_line(place: Path) -> None:
    status, said = setup(place, python="no-such-python")
    assert status == 1 and len(said) == 1 and "not installed" in said[0]
    old = place / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10"\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    status, said = setup(place, python="./old")
    assert status == 1 and len(said) == 1 and "3.8.10" in said[0] and "3.11" in said[0] and "PYTHON=" in said[0]
    (place / "no_venv").touch()
    status, said = setup(place)
    assert status == 1 and len(said) == 1 and "python3-venv" in said[0]
    assert not (place / ".venv").exists()
