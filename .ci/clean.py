"""Widgets out of saved notebooks, after nbdev's clean: `.ci/clean.py [NOTEBOOK...]`, by default all of nbs/.

A saved widget is the number of something in a kernel that is gone: JupyterLab shows "Error displaying widget" for it, and the
number differs in each run. What stands beside it in the output, a picture or a text, is kept and shown in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


def without_widgets(notebook: dict[str, Any]) -> bool:
    """Takes the widgets out of a notebook's outputs and metadata; whether there were any."""
    found = notebook["metadata"].pop("widgets", None) is not None
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            found |= output.get("data", {}).pop(WIDGET, None) is not None
    return found


def before_save(path: str, model: dict[str, Any], **kwargs: Any) -> None:
    """What `make lab` does to a notebook whenever JupyterLab saves it (see jupyter_server_config.py)."""
    from nbdev.clean import clean_jupyter

    clean_jupyter(path, model, **kwargs)
    if model["type"] == "notebook":
        without_widgets(model["content"])


def main(names: list[str]) -> None:
    """Cleans files, and writes those alone that change."""
    from execnb.nbio import read_nb, write_nb

    everything = (Path(__file__).resolve().parent.parent / "nbs").rglob("[!._]*.ipynb")
    for path in [Path(n) for n in names] or sorted(p for p in everything if ".ipynb_checkpoints" not in p.parts):
        if without_widgets(notebook := read_nb(path)):
            write_nb(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
