"""Exercises from nbs/exercises/lessonN/*.ipynb: stub and solution notebooks, and what the package keeps for its checks.

Run `.ci/make_exercises.py [--check] [ROOT]`: --check writes nothing and fails where something is not in step. A stub
notebook that was edited is a learner's work: it is never written over, and outside CI it is no failure.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from two_towers.authoring import packed, parse, render
from two_towers.exercises import dumps

PACKAGE = "two_towers/exercise_stubs"
BLOCK = re.compile(r"(?s)(<!-- exercises: .*? -->\n).*(<!-- /exercises -->)")


def text_of(path: Path) -> str | None:
    """What a file holds; None where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def wanted(root: Path) -> dict[str, str]:
    """Path and text of every generated file, and README.md with its table of them."""
    want, rows = {}, []
    for path in sorted((root / "nbs" / "exercises").glob("lesson*/[!._]*.ipynb")):
        source, name = parse(path), f"{path.parent.name}/{path.stem}"
        if not (root / "nbs" / f"{source.card['builds on']}.ipynb").exists():
            raise ValueError(f"{name}: builds on {source.card['builds on']!r}, which is not there")
        want[f"exercises/{name}.ipynb"] = dumps(render(source))
        want[f"exercises/solutions/{name}.ipynb"] = dumps(render(source, solved=True))
        want[f"{PACKAGE}/{name}.json"] = dumps(packed(source))
        stars, minutes, title = "★" * source.card["difficulty"], source.card["minutes"], source.card["title"]
        rows.append(f"| [{name}](exercises/{name}.ipynb) | {stars} | {minutes} | {title} |")
    if readme := text_of(root / "README.md"):
        table = "\n".join(["| exercise | hard | minutes | |", "|---|---|---|---|", *rows])
        want["README.md"] = BLOCK.sub(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", readme)
    return want


def untouched(root: Path, name: str) -> bool:
    """Is a stub notebook still as it was generated? The package's copy, of the same generation, tells."""
    kept = text_of(root / PACKAGE / Path(name).relative_to("exercises").with_suffix(".json"))
    here = text_of(root / name)
    return here is None or kept is not None and here == dumps(json.loads(kept)["notebook"])


def main(check: bool, root: Path) -> int:
    """Writes the files, or checks them; returns the exit status."""
    want, status = wanted(root), 0
    have = {p.relative_to(root).as_posix() for place, end in (("exercises/solutions", "ipynb"), (PACKAGE, "json"))
            for p in (root / place).glob(f"lesson*/*.{end}")}
    stubs = {n.replace(PACKAGE, "exercises").replace(".json", ".ipynb") for n in have if n.startswith(PACKAGE)}
    have |= {n for n in stubs - want.keys() if (root / n).exists()}  # the stub of an exercise that is no more
    names = sorted(want.keys() | have, key=lambda n: (n.startswith(PACKAGE), n))  # the package's copies last: see `untouched`
    for name in names:
        path = root / name
        if text_of(path) == want.get(name):
            continue
        stub = name.startswith("exercises/lesson")
        if stub and not untouched(root, name) and not (check and os.environ.get("CI")):
            print(f"note: {name} was edited: a learner's work, left as it is (`two-towers exercises reset` writes it anew)")
        elif check:
            status = 1
            print(f"{name} is not what nbs/exercises gives: run `make export`")
        elif name in want:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(want[name], encoding="utf-8")
        else:
            path.unlink()
    return status


if __name__ == "__main__":
    words = [w for w in sys.argv[1:] if w != "--check"]
    try:
        sys.exit(main("--check" in sys.argv, Path(words[0]) if words else Path(__file__).resolve().parent.parent))
    except ValueError as error:
        sys.exit(str(error))
