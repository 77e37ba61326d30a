"""A JupyterLab and a browser, for the tests that do what a learner does."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
SECONDS = 60  # for a thing to happen on a busy machine; all together takes half of that


@pytest.fixture
def lab(folder: Path, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A JupyterLab in the test's own `folder`, set up as `make lab` does it, with nothing of this user's: gives the address of a
    notebook in there."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install -e '.[dev]'")
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
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset"
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
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    browsers = [found for name in BROWSERS if (found := shutil.which(name))]
    if not browsers:
        pytest.skip("no Chromium on this machine: on Debian install the package chromium")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browsers[0], env={**os.environ, "HOME": str(tmp_path)})
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        yield page
        browser.close()
