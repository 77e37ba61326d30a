"""The playground in a real JupyterLab, driven in headless Chromium; and what is saved of it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from two_towers.playground import PRESETS, TripletToy, draw, png

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"
SECONDS = 60  # for a thing to happen on a busy machine; all together takes half of that


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with the notebook, but for its test cells: they are run elsewhere."""
    notebook = json.loads((ROOT / "nbs/lesson1_compare/03_playground.ipynb").read_text(encoding="utf-8"))
    notebook["cells"] = [c for c in notebook["cells"] if not "".join(c["source"]).startswith("#| test")]
    place = tmp_path / "course"
    place.mkdir()
    (place / "playground.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    shutil.copy(ROOT / "settings.ini", place)
    return place


def menu(page: Any, name: str, item: str) -> None:
    """One of JupyterLab's menu entries, by mouse."""
    page.locator("#jp-MainMenu").get_by_text(name, exact=True).click()
    page.locator(".lm-Menu").get_by_text(item, exact=True).click()


SHOWN = """async want => {
    const numbers = document.querySelector(".jupyter-widgets pre"), picture = document.querySelector("img.widget-image");
    if (numbers?.textContent !== want.numbers || !picture) return false;
    try {
        const bytes = new Uint8Array(await (await fetch(picture.src)).arrayBuffer());
        return btoa(String.fromCharCode(...bytes)) === want.picture;
    } catch { return false; }  // replaced while we read it
}"""


def wait(page: Any, toy: TripletToy) -> str:
    """Until the widget shows this toy: its numbers, and its picture to the last byte, which is returned in base64."""
    picture = base64.b64encode(png(draw(toy))).decode()
    page.wait_for_function(SHOWN, arg={"numbers": str(toy), "picture": picture}, polling=100)
    return picture


def still(page: Any) -> None:
    """The playground's cell shows its picture, and no widget, dead or alive."""
    cell = page.locator(".jp-CodeCell", has_text='Playground("hard")').last
    api.expect(cell.locator(".jp-OutputArea-output img")).to_be_visible(timeout=SECONDS * 1000)
    assert cell.locator(".jp-OutputArea-output img").get_attribute("src").startswith("data:image/png;base64,")
    assert page.locator(".jupyter-widgets").count() == 0
    assert "Error displaying widget" not in cell.inner_text()


def test_sliders_and_buttons_change_numbers_and_picture(page: Any, lab: Callable[[str], str], folder: Path) -> None:
    page.goto(lab("playground.ipynb"))
    still(page)  # before anything is run
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # run sooner, and it asks for a kernel
    menu(page, "Run", "Run All Cells")
    toy = PRESETS["hard"].toy()
    start = wait(page, toy)

    page.locator(".widget-hslider", has_text="N x").locator(".noUi-handle").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    points = toy.points.clone()
    points[2, 0] += 4 * 0.05
    toy = replace(toy, points=points)
    moved = wait(page, toy)

    page.get_by_role("button", name="Step").click()
    toy.step()
    stepped = wait(page, toy)

    page.locator(".widget-play button").first.click()
    for _ in range(20):
        toy.step()
    played = wait(page, toy)
    page.locator(".widget-play button .fa-play").wait_for()  # it has stopped by itself
    assert len({start, moved, stepped, played}) == 4

    page.get_by_role("button", name="Reset").click()
    toy.reset()
    assert wait(page, toy) == moved
    page.get_by_role("button", name="Reset").click()
    assert wait(page, PRESETS["hard"].toy()) == start

    menu(page, "File", "Save Notebook")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    saved = json.loads((folder / "playground.ipynb").read_text(encoding="utf-8"))
    outputs = [o for c in saved["cells"] if "".join(c["source"]).startswith("Playground(") for o in c["outputs"]]
    assert len(outputs) == 1 and "image/png" in outputs[0]["data"] and WIDGET not in json.dumps(saved)
    assert page.locator(".jupyter-widgets pre").is_visible()  # saving leaves the open page alone
    page.reload()
    still(page)
