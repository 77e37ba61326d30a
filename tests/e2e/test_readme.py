"""README.md and 00_start say only what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from two_towers.exercises import catalogue

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def start() -> str:
    cells = json.loads((ROOT / "nbs" / "00_start.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    dead = [t for t in LINK.findall(readme) if not (ROOT / t).exists()]
    dead += [t for t in LINK.findall(start()) if not (ROOT / "nbs" / t).exists()]
    assert not dead


def test_both_maps_name_every_notebook() -> None:
    readme, map_ = (ROOT / "README.md").read_text(encoding="utf-8"), start()
    for path in sorted((ROOT / "nbs").rglob("[!._]*.ipynb")):
        if path.relative_to(ROOT / "nbs").match("exercises/lesson*/*"):
            continue  # in README's table of exercises, by title: see below
        if ".ipynb_checkpoints" not in path.parts and path.name != "00_start.ipynb":
            assert path.relative_to(ROOT).as_posix() in readme, f"{path.name} is missing from README.md's map"
            assert path.relative_to(ROOT / "nbs").as_posix() in map_, f"{path.name} is missing from 00_start's map"


def test_the_readme_names_every_exercise() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for exercise in catalogue():
        assert f"({exercise.path(Path('exercises')).as_posix()})" in readme, f"{exercise.id} is missing from README's exercises"
        assert exercise.card["title"] in readme, f"{exercise.id}: README has another title"
