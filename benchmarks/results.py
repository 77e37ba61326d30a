"""The numbers that the project claims: the default recipe on each collection, the median seed with its interval.

    python benchmarks/results.py [--data pydocs pydocs-random] [--folder BEIR_FOLDER [--bm25-run RUN]] [--seeds 3]
        [--ledger runs/results.jsonl]

Rows: chance, BM25 at its strongest, the towers, the hybrid, and the towers made without the judged passages (not in
their vocabulary, their pre-training, or their labels). With --bm25-run also a TREC run of the folder's test queries,
such as Anserini's with a whole collection's statistics. All seeds go to the ledger; the table is the median seed's.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ladder import HYBRID, append, guarded, line, middle, unjudged
from timing import table

from two_towers.data import Collection, load
from two_towers.evaluate import evaluate
from two_towers.metrics import DEFAULT, measure, read_run
from two_towers.recipe import Recipe, train_model

TITLES = {"chance": "chance", "bm25": "BM25", "run": "BM25, statistics of the full collection", "model": "towers",
          "hybrid": "hybrid", "unjudged": "towers made without the judged passages"}
QUICK = {"dim": 16, "pretrain_epochs": 1, "epochs": 1}


def collection(data: Collection, seeds: int, quick: bool, run: Path | None = None) -> list[dict[str, Any]]:
    """The ledger's lines of one collection's test split: each row, for each seed."""
    recipe, show, lines = Recipe(**(QUICK if quick else {})), sys.stderr.isatty(), []
    fixed: dict[str, Any] = {"weight": HYBRID, "progress": show}
    for seed in range(seeds):
        for what, source in (("model", data), ("unjudged", unjudged(data, "test"))):
            wall, processor = time.perf_counter(), time.process_time()
            model, _ = train_model(source, replace(recipe, seed=seed), progress=show)
            took = {"seconds": round(time.perf_counter() - wall, 1),
                    "processor_seconds": round(time.process_time() - processor, 1)}
            report = evaluate(model, data.test, **fixed)
            fixed |= {"k1": report.k1, "b": report.b}
            if what == "unjudged":
                lines.append(line(report, what, "model", seed, **took))
                continue
            if seed == 0:
                lines.append(line(report, "chance", "chance", 0))
                lines.append(line(report, "bm25", "bm25", 0, how=report.bm25))
                if run:
                    report.scores["run"] = measure(read_run(run), data.test.qrels, report.metrics)
                    lines.append(line(report, "run", "run", 0))
            for row in ("model", "hybrid"):
                found = report.compare(row, "bm25")
                beside = {key: round(float(getattr(found, key)), 5) for key in ("diff", "lo", "hi", "p")}
                lines.append(line(report, row, row, seed, against_bm25=beside, **took))
    return lines


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines of one collection: the median seed by the first metric, with its own interval."""
    first = lines[0]["primary"]
    base = next(e for e in lines if e["rung"] == "bm25")["metrics"]
    found = []
    for name in TITLES:
        mine = [e for e in lines if e["rung"] == name]
        if not mine:
            continue
        e = middle(mine, first)
        lead = [f"{e['data']} {e['split']}", TITLES[name] + (f" ({len(mine)} seeds)" if len(mine) > 1 else "")]
        cells = [f"{e['metrics'][m]:.3f} [{e['ci'][m][0]:.3f}, {e['ci'][m][1]:.3f}]" for m in DEFAULT]
        ratio = f"{e['metrics'][first] / max(base[first], 1e-9):.2f} ({first})"
        p = f"{e['against_bm25']['p']:.4f}" if "against_bm25" in e else ""
        found.append([*lead, *cells, ratio, p, f"{e['seconds']:.0f}" if "seconds" in e else ""])
    return found


def main() -> None:
    """Reads the options, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["pydocs", "pydocs-random"])
    parser.add_argument("--folder", help="a collection in BEIR's layout, with a test split")
    parser.add_argument("--bm25-run", type=Path, help="a TREC run of the folder's test queries")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="rows of each split")
    parser.add_argument("--quick", action="store_true", help="one epoch, 16 dimensions: to see that it runs")
    parser.add_argument("--ledger", type=Path, default=Path("runs/results.jsonl"))
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    if o.bm25_run and not o.folder:
        raise ValueError("--bm25-run without --folder: whose queries does it answer?")
    found = []
    for name in [*o.data, *([o.folder] if o.folder else [])]:
        lines = collection(load(name, limit=o.limit), o.seeds, o.quick, o.bm25_run if name == o.folder else None)
        for entry in lines:
            append(o.ledger, entry)
        about = lines[0]
        found += rows(lines)
        print(f"{about['data']}: {about['queries']:,} queries over {about['corpus_size']:,} documents, data "
              f"{about['fingerprint']}; {next(e['how'] for e in lines if 'how' in e)}", file=sys.stderr, flush=True)
    heads = ["data", "row", *DEFAULT, "against BM25", "p", "seconds of making"]
    print(table(heads, found))


if __name__ == "__main__":
    guarded(main)
