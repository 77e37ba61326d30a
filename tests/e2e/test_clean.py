"""Saved notebooks hold no widget: .ci/clean.py on files, and what the check of kept outputs says."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook(path: Path, data: dict[str, Any], **metadata: Any) -> Path:
    output = {"output_type": "display_data", "metadata": {}, "data": data}
    cell = {"cell_type": "code", "id": "a1", "metadata": {}, "execution_count": None, "source": ["1"], "outputs": [output]}
    whole = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def clean(path: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, ROOT / ".ci/clean.py", path], check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_widget_goes_and_its_picture_stays(tmp_path: Path) -> None:
    data = {WIDGET: {"model_id": "0123"}, "image/png": "iVBORw0KGgo=", "text/plain": ["a playground"]}
    after = clean(notebook(tmp_path / "a.ipynb", data, widgets={"state": {}}, kernelspec={"name": "python3"}))
    assert after["cells"][0]["outputs"][0]["data"] == {k: v for k, v in data.items() if k != WIDGET}
    assert after["metadata"] == {"kernelspec": {"name": "python3"}}


def test_what_holds_no_widget_is_not_written(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", {"image/png": "iVBORw0KGgo="})
    before = path.read_bytes()
    clean(path)
    assert path.read_bytes() == before


def test_a_plot_keeps_its_look_in_a_smaller_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 300)[None, :, None] * np.ones((200, 1, 3)) + draw.normal(0, 3, (200, 300, 3))
    file = io.BytesIO()
    Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    path = notebook(tmp_path / "a.ipynb", {"image/png": base64.b64encode(file.getvalue()).decode()})
    after = base64.b64decode(clean(path)["cells"][0]["outputs"][0]["data"]["image/png"])
    assert len(after) < len(file.getvalue()) / 2
    look = np.asarray(Image.open(io.BytesIO(after)).convert("RGB")).astype(float)
    assert np.abs(look - smooth).mean() < 5
    before = path.read_bytes()
    clean(path)
    assert path.read_bytes() == before  # once is enough


def test_the_check_of_kept_outputs_names_a_widget(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / "nbs").mkdir()
    (tmp_path / ".ci/test.py").write_bytes((ROOT / ".ci/test.py").read_bytes())
    path = notebook(tmp_path / "nbs/a.ipynb", {WIDGET: {"model_id": "0123"}, "text/plain": ["a playground"]})
    command = [sys.executable, "-c", "import runpy; print(runpy.run_path('.ci/test.py')['kept']())"]
    said = [subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout]
    clean(path)
    said.append(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    assert "nbs/a.ipynb keeps a widget" in said[0] and said[1] == "[]\n"
