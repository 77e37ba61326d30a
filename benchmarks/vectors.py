"""What word vectors to start from are worth: none, word2vec and GloVe, with few labels and with the whole recipe.

    python benchmarks/vectors.py --data BEIR_FOLDER [--seeds 3] [--out benchmarks/measured/vectors.json]

Two ways of making: "labels only" (no pre-training, no lexical sketch) and "recipe" (the default recipe). word2vec is
trained once, on the corpus, and every seed starts from it. Differences are paired: the same queries, each query's
value the mean over the seeds. The share of the start vectors was chosen on validation; test is asked once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ladder import HYBRID, guarded
from timing import cores, table

from two_towers.data import Collection, load
from two_towers.evaluate import evaluate
from two_towers.metrics import Scores, compare
from two_towers.recipe import Recipe, train_model
from two_towers.start import SHARE
from two_towers.vectors import word2vec

MAKINGS = {"labels only": {"pretrain": "none", "lexical": 0}, "recipe": {}}
METRIC = {"validation": "MRR@10", "test": "nDCG@10"}
QUICK = {"dim": 64, "pretrain_epochs": 1, "epochs": 1}


def mean(scores: list[Scores]) -> Scores:
    """The same queries' values, averaged over seeds."""
    return Scores(scores[0].queries, {m: np.mean([s.of(m) for s in scores], axis=0) for m in scores[0].values})


def measure(data: Collection, sources: dict[str, str], seeds: int, quick: bool) -> Any:
    """After each model: the list of runs so far, and each making's and source's scores."""
    runs: list[dict[str, Any]] = []
    scores: dict[tuple[str, str, str, str], list[Scores]] = {}
    fixed: dict[str, dict[str, Any]] = {split: {"weight": HYBRID, "progress": False} for split in METRIC}
    for seed in range(seeds):
        for making, settings in MAKINGS.items():
            for name, source in sources.items():
                wall, processor = time.perf_counter(), time.process_time()
                recipe = Recipe(**settings, **(QUICK if quick else {}), vectors=source, seed=seed)
                model, _ = train_model(data, recipe, progress=False)
                entry = {"making": making, "vectors": name, "seed": seed, "seconds": round(time.perf_counter() - wall, 1),
                         "processor_seconds": round(time.process_time() - processor, 1)}
                for split, metric in METRIC.items():
                    report = evaluate(model, data.split(split), **fixed[split])
                    fixed[split] |= {"k1": report.k1, "b": report.b}
                    entry[split] = {row: round(report.scores[row].mean(metric), 5) for row in ("bm25", "model", "hybrid")}
                    for row in ("model", "hybrid"):
                        scores.setdefault((making, name, split, row), []).append(report.scores[row])
                runs.append(entry)
                print(json.dumps(entry), file=sys.stderr, flush=True)
                yield runs, scores


def against_none(scores: dict[tuple[str, str, str, str], list[Scores]]) -> list[dict[str, Any]]:
    """Each source against none: the mean over the seeds that both have, the paired difference, its interval and p."""
    found = []
    for (making, name, split, row), mine in scores.items():
        base, metric = scores[making, "none", split, row], METRIC[split]
        n = min(len(mine), len(base))
        a, b = mean(mine[:n]), mean(base[:n])
        entry = {"making": making, "vectors": name, "split": split, "row": row, "metric": metric, "seeds": n,
                 "queries": len(a.queries), "value": round(a.mean(metric), 5), "ci": [round(x, 5) for x in a.ci(metric)]}
        if name != "none":
            c = compare(a, b, metric)
            entry |= {key: round(float(getattr(c, key)), 5) for key in ("diff", "lo", "hi", "p")}
        found.append(entry)
    return found


def write(path: Path, value: dict[str, Any]) -> None:
    """The ledger, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf8")
    os.replace(temporary, path)


def main() -> None:
    """Reads the options, measures, writes the ledger, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a BEIR folder, or another collection with three splits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one epoch, 64 dimensions: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/vectors.json"))
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    data, all_found = load(o.data), []
    with tempfile.TemporaryDirectory() as folder:
        start, path = time.process_time(), Path(folder) / "word2vec.txt"
        word2vec(data).save_word2vec_format(str(path))
        about = {"data": data.name, "fingerprint": data.fingerprint, "corpus_size": len(data.corpus),
                 "train_queries": len(data.train), "share": SHARE, "cores": cores(), "quick": o.quick,
                 "word2vec_processor_seconds": round(time.process_time() - start, 1)}
        for runs, scores in measure(data, {"none": "none", "word2vec": str(path), "glove": "glove"}, o.seeds, o.quick):
            all_found = against_none(scores)
            write(o.out, {"about": about, "means": all_found, "runs": runs})
    rows = []
    for e in all_found:
        beside = f"{e['diff']:+.3f} [{e['lo']:+.3f}, {e['hi']:+.3f}] p {e['p']:.4f}" if "p" in e else ""
        value = f"{e['metric']} {e['value']:.3f} [{e['ci'][0]:.3f}, {e['ci'][1]:.3f}]"
        rows.append([e["making"], e["vectors"], f"{e['split']} {e['row']}", value, beside])
    print(table(["making", "vectors", "split, row", "mean over seeds", "against none"], rows))


if __name__ == "__main__":
    guarded(main)
