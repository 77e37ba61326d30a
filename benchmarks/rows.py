"""What rows hold before anything is trained on them: flags, lengths, answers in negatives, leakage between splits.

    python benchmarks/rows.py --rows FILE... [--data pydocs pydocs-random] [--out benchmarks/measured/rows.json]

FILE: parquet or JSON lines with rows of MS MARCO. Only figures are kept, no text. A file with no labelled row gives its
flags alone. The splits are the loader's: by a hash of the question where a file brings none of its own.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from two_towers.audit import Lengths, answer_shares, leakage
from two_towers.data import Collection, load
from two_towers.viewer import flag_kind, rows_of

GRID = sorted({int(x) for x in np.geomspace(5, 600, 25)} | {30, 64, 128})


def audited(source: Path | str) -> dict[str, Any]:
    """The figures of one file, or of a data set by its name."""
    data: Collection | None = None
    try:
        data = load(source)
    except ValueError as error:  # no row that can be asked: its flags are still worth counting
        print(f"{source}: {error}")
    rows = rows_of(source if isinstance(source, Path) else data, None)
    found: dict[str, Any] = {"rows": len(rows), "flags": dict(Counter(map(flag_kind, rows)))}
    if data is None:
        return found
    passages = Lengths.of(data.corpus.values())
    found["lengths"] = {"queries": Lengths.of(data.queries.values()).to_dict(), "passages": passages.to_dict()}
    found["curve"] = {str(at): round(passages.cut(at)[1], 4) for at in GRID}
    if any(data.answers.values()):
        found["answers"] = answer_shares(data)
    if {"train", "test"} <= set(data.splits):
        found["leakage"] = leakage(data.train, data.test)
    return found


def main() -> None:
    """Audit, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "rows.json")
    args = parser.parse_args()
    if not args.rows and not args.data:
        parser.error("nothing to audit: give --rows FILE, --data NAME, or both")
    found = {path.name.split(".parquet")[0].split(".jsonl")[0]: audited(path) for path in args.rows}
    found |= {name: audited(name) for name in args.data}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
