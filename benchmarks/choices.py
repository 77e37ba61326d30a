"""What is taken for a positive and where the negatives come from, each choice trained alike and measured.

    python benchmarks/choices.py [--seeds 2] [--data pydocs] [--out benchmarks/measured/choices.json]

One small tower, one budget: every choice sees about as many pairs as six epochs of the selected ones hold, so that
"all positives" isn't better for having trained longer. No choice is tuned. Two questions are asked of each model: to
find the passage in the whole corpus, and to rank the passages of the query's own row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from timing import cores

from two_towers.data import Collection, load
from two_towers.evaluate import evaluate
from two_towers.towers import DualEncoder
from two_towers.train import fit

CHOICES = {  # name: (loss, positives, negatives)
    "triplet, selected, random": ("triplet", "selected", "random"),
    "triplet, selected, same row": ("triplet", "selected", "row"),
    "triplet, selected, both": ("triplet", "selected", "both"),
    "triplet, all, random": ("triplet", "all", "random"),
    "softmax, selected, in batch": ("inbatch", "selected", "inbatch"),
    "softmax, selected, in batch and same row": ("inbatch", "selected", "row"),
    "softmax, all, in batch": ("inbatch", "all", "inbatch"),
}
METRICS = ("MRR@10", "Recall@100")
TASKS = {"corpus": METRICS, "candidates": METRICS[:1]}


def figures(scores: Any) -> dict[str, Any]:
    """Mean and 95 % interval of each metric, rounded."""
    return {m: {"mean": round(scores.mean(m), 4), "ci": [round(x, 4) for x in scores.ci(m)]} for m in scores.values}


def measured(data: Collection, seeds: int = 2, epochs: int = 6, dim: int = 64, queries: int | None = None) -> dict[str, Any]:
    """Every choice's figures for each seed, beside chance, BM25 and the tower before any training."""
    train, test = (s if queries is None else s.sample(queries) for s in (data.train, data.test))
    rows: dict[str, list[dict[str, Any]]] = {}
    fixed: dict[str, Any] = {"progress": False}

    def judge(name: str, model: DualEncoder, about: dict[str, Any]) -> None:
        reports = {task: evaluate(model, test, protocol=task, metrics=metrics, **fixed) for task, metrics in TASKS.items()}
        fixed.update(k1=reports["corpus"].k1, b=reports["corpus"].b)
        asked = {name: "model"} if rows else {"chance": "chance", "BM25": "bm25", name: "model"}
        for row, what in asked.items():
            found = {task: figures(report.scores[what]) for task, report in reports.items()}
            rows.setdefault(row, []).append(found | (about if what == "model" else {}))

    for seed in range(seeds):
        judge("untrained", DualEncoder.for_corpus(data, dim=dim, lexical=0, seed=seed), {"seed": seed})
        budget = epochs * len(train.positives())
        for name, (loss, positives, negatives) in CHOICES.items():
            model = DualEncoder.for_corpus(data, dim=dim, lexical=0, seed=seed)
            pairs, start = train.pairs(model.tokens, positives=positives, negatives=negatives), time.process_time()
            fit(model, pairs, loss=loss, epochs=max(1, round(budget / len(pairs))), seed=seed, progress=False)
            about = {"seed": seed, "pairs": len(pairs), "processor_seconds": round(time.process_time() - start, 1)}
            judge(name, model, about)
            print(f"{name}, seed {seed}: {rows[name][-1]['corpus']['MRR@10']['mean']}", file=sys.stderr, flush=True)
    return {"data": data.name, "fingerprint": data.fingerprint, "documents": len(data.corpus), "test": len(test), "dim": dim,
            "bm25": [fixed["k1"], fixed["b"]], "epochs_of_selected": epochs, "cores": cores(), "rows": rows}  # fmt: skip


def main() -> None:
    """Train, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "choices.json")
    args = parser.parse_args()
    small: dict[str, Any] = {"epochs": 1, "dim": 8, "queries": 40} if args.quick else {}
    found = measured(load(args.data), args.seeds, **small)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, seeds in found["rows"].items():
        corpus, row = seeds[0]["corpus"]["MRR@10"], seeds[0]["candidates"]["MRR@10"]
        print(f"{name:<42} corpus {corpus['mean']:.3f} {corpus['ci']}   own row {row['mean']:.3f} {row['ci']}")


if __name__ == "__main__":
    main()
