"""Widgets out of saved notebooks, pictures down to 128 colours, after nbdev's clean: `.ci/clean.py [NOTEBOOK...]`; none: all.

A saved widget is the number of something in a kernel that is gone: JupyterLab shows "Error displaying widget" for it, and the
number differs in each run. What stands beside it in the output, a picture or a text, is kept and shown in its place.

A plot needs few colours: with 128 of them its file is about half as large.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
COLOURS, SMALL = 128, 4000  # bytes: smaller pictures stay as they are


def without_widgets(notebook: dict[str, Any]) -> bool:
    """Takes the widgets out of a notebook's outputs and metadata; whether there were any."""
    found = notebook["metadata"].pop("widgets", None) is not None
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            found |= output.get("data", {}).pop(WIDGET, None) is not None
    return found


def few_colours(notebook: dict[str, Any]) -> bool:
    """Pictures of more than 128 colours saved anew with 128, where that saves a tenth; whether there were any."""
    found = False
    for output in (o for cell in notebook["cells"] for o in cell.get("outputs", [])):
        text = output.get("data", {}).get("image/png")
        if text and (smaller := fewer(base64.b64decode("".join(text)))):
            output["data"]["image/png"], found = base64.b64encode(smaller).decode(), True
    return found


def fewer(png: bytes) -> bytes | None:
    """The picture with 128 colours; None where it has no more, is small, or would not shrink by a tenth."""
    from PIL import Image

    if len(png) <= SMALL:
        return None
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "P":
        return None
    out = io.BytesIO()
    paper = Image.new("RGB", picture.size, "white")  # plots are seen on white: what shines through becomes it
    paper.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    paper.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue() if len(out.getvalue()) < 0.9 * len(png) else None


def before_save(path: str, model: dict[str, Any], **kwargs: Any) -> None:
    """What `make lab` does to a notebook whenever JupyterLab saves it (see jupyter_server_config.py)."""
    from nbdev.clean import clean_jupyter

    clean_jupyter(path, model, **kwargs)
    if model["type"] == "notebook":
        without_widgets(model["content"])
        few_colours(model["content"])


def main(names: list[str]) -> None:
    """Cleans files, and writes those alone that change."""
    from execnb.nbio import read_nb, write_nb

    everything = (Path(__file__).resolve().parent.parent / "nbs").rglob("[!._]*.ipynb")
    for path in [Path(n) for n in names] or sorted(p for p in everything if ".ipynb_checkpoints" not in p.parts):
        notebook = read_nb(path)
        if any([without_widgets(notebook), few_colours(notebook)]):
            write_nb(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
