"""The playground in a real JupyterLab, driven in headless Chromium; and what is saved of it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from two_towers.playground import PRESETS, TripletToy, draw, png

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install -e '.[dev]'")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
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


@pytest.fixture
def lab(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The notebook's address in a JupyterLab set up as `make lab` does it, with nothing of this user's."""
    settings = tmp_path / "settings" / "@jupyterlab"
    for plugin, value in {
        "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are there too
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "docmanager-extension/plugin": {"autosave": False},
    }.items():
        file = settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value), encoding="utf-8")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    places = {"HOME": "home", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
              "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    own = {name: str(tmp_path / place) for name, place in places.items()}
    own |= {"JUPYTER_CONFIG_PATH": str(ROOT / ".ci"), "JUPYTER_TOKEN": token, "PYTHONPATH": str(ROOT)}
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS
        while not list((tmp_path / "runtime").glob("jpserver-*.json")):  # it is written once the server listens
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            else:
                pytest.fail(f"JupyterLab ended: {(tmp_path / 'log').read_text()}")
        yield f"http://127.0.0.1:{port}/lab/tree/playground.ipynb?token={token}"
    finally:
        server.send_signal(signal.SIGTERM)  # it takes its kernels along
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """An empty page of a browser that knows nobody."""
    browsers = [found for name in BROWSERS if (found := shutil.which(name))]
    if not browsers:
        pytest.skip("no Chromium on this machine: on Debian install the package chromium")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browsers[0], env={**os.environ, "HOME": str(tmp_path)})
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        yield page
        browser.close()


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


def test_sliders_and_buttons_change_numbers_and_picture(page: Any, lab: str, folder: Path) -> None:
    page.goto(lab)
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
