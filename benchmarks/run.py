"""Every speed measurement side by side with a peer, as one Markdown table of ratios.

    python benchmarks/run.py [training_speed encode_speed search_speed ...] [--threads N] [--quick] [--keep [FOLDER]]

Ours and the peer take turns in the same process, and the ratio (above 1: ours is better) is of their medians: it
travels from machine to machine where seconds do not. On one thread the clock counts processor time, so that other
work on the machine does not show. Nothing here fails a build. --quick: toy sizes, to see that it runs; ratios of no
meaning. --keep: also write the table as FOLDER/YYYY-MM-DD.md, by default into benchmarks/measured/ratios, and say which
ratios have fallen by more than a tenth since the last ones kept there on a machine of as many cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from timing import cores, number, set_threads, table  # noqa: E402
from vectors import write  # noqa: E402

QUICK: dict[str, dict[str, Any]] = {
    "training_speed": {"data": "sample", "dim": 8, "batch": 8, "epochs": 1, "steps": 2, "rounds": 1},
    "encode_speed": {"data": "sample", "documents": 50, "dim": 8, "lexical": 24, "words": 500, "rounds": 1},
    "search_speed": {"sizes": (500,), "queries": (10,), "ks": (10,), "rounds": 1},
    "recurrent_speed": {"data": "sample", "documents": 20, "dim": 8, "batches": (4,), "rounds": 1},
    "metrics_speed": {"queries": 20, "depth": 50, "rounds": 1},
    "import_time": {"rounds": 1},
}


def measure(names: list[str], threads: int, quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all named modules, and a line for each that could not be measured."""
    rows, missing = [], []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            found = importlib.import_module(name).run(threads=threads, **(QUICK[name] if quick else {}))
        except ModuleNotFoundError as error:
            missing.append(f"{name}: not measured, there is no {error.name} here: pip install 'two_towers[bench]'")
            continue
        rows += [{**row, "module": name} for row in found]
    return rows, missing


def as_table(rows: list[dict[str, Any]], threads: int) -> str:
    """Name, ours, peer, ratio, unit, and the machine's cores / threads used."""
    lines = [
        [f"{r['module']}: {r['name']}", number(r["ours"]), number(r["peer"]), f"{r['ratio']:.2f}", r["unit"],
         f"{cores()} / {threads}"]
        for r in rows
    ]
    return table(["name", "ours", "peer", "ratio", "unit", "cores / threads"], lines)


FELL = 0.9  # of the last ratio: less than that is said


def fallen(rows: list[dict[str, Any]], before: dict[str, Any], threads: int) -> list[str]:
    """A line for each ratio that is less than nine tenths of the last one, measured on as many cores and threads."""
    if not before:
        return ["the first kept here: nothing to compare with"]
    if (before["cores"], before["threads"]) != (cores(), threads):
        return [f"nothing to compare with: the last were measured on {before['cores']} cores, {before['threads']} threads"]
    last = before["ratios"]
    named = [(f"{r['module']}: {r['name']}", r["ratio"]) for r in rows]
    lines = [f"fell since {before['date']}: {name}, from {last[name]:.2f} to {ratio:.2f}" for name, ratio in named
             if name in last and ratio < FELL * last[name]]
    return lines or [f"none fell by more than a tenth since {before['date']}"]


def keep(folder: Path, rows: list[dict[str, Any]], threads: int, head: str, text: str) -> list[str]:
    """Write the dated table and `last.json`; returns what fell."""
    folder.mkdir(parents=True, exist_ok=True)
    last, today = folder / "last.json", date.today().isoformat()
    told = fallen(rows, json.loads(last.read_text(encoding="utf8")) if last.exists() else {}, threads)
    page, temporary = folder / f"{today}.md", folder / f"{today}.md.tmp"
    temporary.write_text("\n".join([f"# Ratios, {today}", "", head, "", text, "", *told, ""]), encoding="utf8")
    os.replace(temporary, page)
    ratios = {f"{r['module']}: {r['name']}": round(r["ratio"], 3) for r in rows}
    write(last, {"date": today, "cores": cores(), "threads": threads, "ratios": ratios})
    return [*told, f"kept: {page}"]


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(QUICK)} (default: all)")
    parser.add_argument("--threads", type=int, help="of each library (default: one for each core)")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--keep", nargs="?", type=Path, const=Path(__file__).parent / "measured" / "ratios", metavar="FOLDER",
                        help="write a dated table there, and say which ratios fell since the last")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in QUICK]:
        parser.error(f"unknown benchmark {unknown[0]!r}: use {', '.join(QUICK)}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads {options.threads}: must be at least 1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is downloaded
    threads = set_threads(options.threads)
    rows, missing = measure(options.names or list(QUICK), threads, options.quick)
    head = f"Python {platform.python_version()}, {platform.machine()}; ratio above 1: ours is better."
    text = "\n".join([as_table(rows, threads), *missing])
    print(head, "", text, sep="\n")
    if options.keep:
        print("", *keep(options.keep, rows, threads, head, text), sep="\n")


if __name__ == "__main__":
    main()
