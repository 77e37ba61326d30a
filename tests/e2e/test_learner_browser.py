"""A learner opens an exercise in a real JupyterLab, types a wrong answer, reads what is said, and types the right one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from two_towers.authoring import parse
from two_towers.exercises import code, read

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60  # for a thing to happen on a busy machine
LESSONS = sorted(p.name for p in (ROOT / "nbs" / "exercises").glob("lesson*"))
FIRST = [min((ROOT / "nbs" / "exercises" / lesson).glob("[!._]*.ipynb")) for lesson in LESSONS]  # each lesson's first source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The learner's copy: the first exercise of every lesson, as the course gives it."""
    for source in FIRST:
        place = tmp_path / "course" / source.parent.name
        place.mkdir(parents=True)
        shutil.copy(ROOT / "exercises" / source.parent.name / source.name, place)
    shutil.copy(ROOT / "settings.ini", tmp_path / "course")
    return tmp_path / "course"


def menu(page: Any, name: str, item: str) -> None:
    """One of JupyterLab's menu entries, by mouse."""
    page.locator("#jp-MainMenu").get_by_text(name, exact=True).click()
    page.locator(".lm-Menu").get_by_text(item, exact=True).click()


def answer(page: Any, text: str) -> None:
    """Put `text` where the stub, or the answer before, stands; run all cells."""
    cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell", has_text=re.compile(r"#\| (stub|answer)")).first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("#| answer\n" + text)
    menu(page, "Run", "Run All Cells")


def test_a_wrong_answer_then_the_right_one(page: Any, lab: Callable[[str], str], folder: Path) -> None:
    for source in map(parse, FIRST):
        name = f"{source.lesson}/{source.name}.ipynb"
        words, wrong = next(known for known in source.wrong.values() if known[1].strip())
        right = "\n\n\n".join(source.of("solution")).removeprefix("#| solution\n")
        page.goto(lab(name))
        said = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell", has_text="#| check").locator(".jp-OutputArea").first
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # run sooner, and it asks for a kernel
        assert not said.is_visible() or not said.inner_text().strip()

        menu(page, "Run", "Run All Cells")  # nothing written yet
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea", has_text="NotImplementedError").first.wait_for()

        answer(page, f"{right}\n\n\n{wrong}\n")
        told = re.compile(rf"^\s*Not yet: .*{re.escape(words)}[^\n]*\s*$")  # one line, with nothing above it
        api.expect(said).to_have_text(told, timeout=SECONDS * 1000)

        answer(page, right + "\n")
        api.expect(said).to_have_text(re.compile(r"\s*Passed\.\s*"), timeout=SECONDS * 1000)

        with page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
            menu(page, "File", "Save Notebook")
        assert "#| answer\n" + right.strip() in code(read(folder / name))
