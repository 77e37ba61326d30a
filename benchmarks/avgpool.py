"""What each choice in an average-pooled tower is worth: one factor changed at a time, everything else the same.

    python benchmarks/avgpool.py [--data pydocs] [--folder BEIR_FOLDER] [--seeds 3] [--rows NAME ...]
        [--out benchmarks/measured/avgpool.json]

The base: 128 dimensions that start at random and are learned, a weighted mean, in-batch softmax; labels only (no
pre-training, no lexical sketch). Every row keeps its best epoch by validation and has the same rates and epochs; none
was tuned. Differences are paired with the base: the same queries, each query's value the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ladder import guarded, start_alone
from timing import cores, table
from vectors import mean, write

from two_towers.data import Collection, load
from two_towers.evaluate import evaluate, primary
from two_towers.metrics import Scores, compare
from two_towers.recipe import Recipe
from two_towers.towers import DualEncoder
from two_towers.train import fit
from two_towers.vectors import word2vec

BASE = "base"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (factor, what differs from the base)
    BASE: ("", {}),
    "word2vec": ("start", {"vectors": "word2vec"}),
    "GloVe": ("start", {"vectors": "glove"}),
    "frozen random": ("frozen", {"frozen": True}),
    "frozen word2vec": ("frozen", {"frozen": True, "vectors": "word2vec"}),
    "frozen GloVe": ("frozen", {"frozen": True, "vectors": "glove"}),
    "frozen GloVe alone, 50": ("frozen", {"frozen": True, "vectors": "glove", "dim": 50}),
    "frozen GloVe alone, ReLU layer": ("frozen", {"frozen": True, "vectors": "glove", "start_dim": 50, "hidden": (256,)}),
    "plain mean": ("mean", {"word_weights": "none"}),
    "triplet, random negatives": ("loss", {"loss": "triplet", "negatives": "random"}),
    "triplet, mined in the batch": ("loss", {"loss": "triplet"}),
    "50 dimensions": ("dimensions", {"dim": 50}),
    "256 dimensions": ("dimensions", {"dim": 256}),
    "two towers apart": ("towers", {"shared": False}),
}
METRICS = ("MRR@10", "nDCG@10", "Recall@100")


def made(data: Collection, change: dict[str, Any], source: dict[str, str], seed: int, quick: bool) -> tuple[DualEncoder, float]:
    """One row's model, trained, and the processor's seconds for its training."""
    settings, recipe = {"dim": 128, **change}, Recipe()
    loss, negatives = settings.pop("loss", "inbatch"), settings.pop("negatives", "inbatch")
    vectors = source.get(settings.pop("vectors", "none"), "none")
    if quick:
        settings["dim"] = min(settings["dim"], 16)
    if start_dim := settings.pop("start_dim", None):  # the layers decide the dimensions: the vectors come as they are
        vectors, settings["tokenizer"] = start_alone(data, vectors, start_dim, seed)
    model = DualEncoder.for_corpus(data, lexical=0, seed=seed, vectors=vectors, progress=False, **settings)
    valid, start = data.validation.sample(recipe.valid_queries), time.process_time()
    fit(model, data.train.pairs(model.tokens, negatives=negatives), valid=valid, metric=primary(valid.qrels), loss=loss,
        epochs=1 if quick else recipe.epochs, batch_size=recipe.batch, lr=recipe.lr, seed=seed, progress=False)
    return model, time.process_time() - start


def figures(scores: list[Scores], base: list[Scores]) -> dict[str, Any]:
    """The mean over the seeds with its interval, and the paired difference from the base."""
    a, b = mean(scores), mean(base[: len(scores)])
    found: dict[str, Any] = {"queries": len(a.queries)}
    for m in METRICS:
        found[m] = {"value": round(a.mean(m), 4), "ci": [round(x, 4) for x in a.ci(m)],
                    "seeds": [round(s.mean(m), 4) for s in scores]}
        if scores is not base:
            c = compare(a, b, m)
            found[m] |= {key: round(float(getattr(c, key)), 5) for key in ("diff", "lo", "hi", "p")}
    return found


def ordered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collections as they come, rows as in `ROWS`."""
    names, rows = list(dict.fromkeys(e["data"] for e in entries)), ["chance", "bm25", *ROWS]
    return sorted(entries, key=lambda e: (names.index(e["data"]), rows.index(e["row"])))


def collection(data: Collection, o: argparse.Namespace, kept: list[dict[str, Any]]) -> None:
    """Measures the rows of one collection and writes the file after each row."""
    fixed: dict[str, dict[str, Any]] = {s: {"progress": False, "metrics": METRICS, "depth": 100} for s in ("validation", "test")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word2vec.txt"
        word2vec(data).save_word2vec_format(str(path))
        source, base = {"word2vec": str(path), "glove": "glove"}, {}
        for name in [r for r in ROWS if r in o.rows or r == BASE]:
            factor, change = ROWS[name]
            scores: dict[str, list[Scores]] = {"validation": [], "test": []}
            others: dict[str, dict[str, Scores]] = {}
            seconds = []
            for seed in range(o.seeds):
                model, took = made(data, change, source, seed, o.quick)
                seconds.append(round(took, 1))
                for split, options in fixed.items():
                    report = evaluate(model, data.split(split), **options)
                    options |= {"k1": report.k1, "b": report.b}
                    scores[split].append(report.scores["model"])
                    others[split] = {row: report.scores[row] for row in ("chance", "bm25")}
            base = base or scores
            about = {"data": data.name, "fingerprint": data.fingerprint, "corpus_size": len(data.corpus),
                     "train_queries": len(data.train), "seeds": o.seeds, "quick": o.quick, "cores": cores()}
            entries = [{"row": name, "factor": factor, "processor_seconds": seconds}]
            if name == BASE:
                entries = [*({"row": row, "factor": ""} for row in ("chance", "bm25")), *entries]
            for e in entries:
                own = {s: [others[s][e["row"]]] if e["row"] in ("chance", "bm25") else scores[s] for s in scores}
                e |= about | {s: figures(own[s], base[s] if e["row"] == name else own[s]) for s in scores}
                kept[:] = ordered([k for k in kept if (k["data"], k["row"]) != (e["data"], e["row"])] + [e])
            write(o.out, {"rows": kept})
            found = entries[-1]["test"]["MRR@10"]
            print(f"{data.name} {name}: test MRR@10 {found['value']:.3f} {found['ci']}, {seconds} s", file=sys.stderr, flush=True)


def lines(entries: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    found = []
    for e in entries:
        cells = [f"{e['data']}: {e['corpus_size']:,} documents, {e['test']['queries']:,} test queries", e["row"]]
        for split, m in (("validation", "MRR@10"), ("test", "MRR@10"), ("test", "nDCG@10")):
            f = e[split][m]
            beside = f"; {f['diff']:+.3f}, p {f['p']:.4f}" if "p" in f else ""
            cells.append(f"{f['value']:.3f} [{f['ci'][0]:.3f}, {f['ci'][1]:.3f}]{beside}")
        found.append([*cells, "/".join(f"{s:.0f}" for s in e.get("processor_seconds", []))])
    return found


def main() -> None:
    """Reads the options, measures, writes, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["pydocs"])
    parser.add_argument("--folder", help="a collection in BEIR's layout, with all three splits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--limit", type=int, help="rows of each split")
    parser.add_argument("--quick", action="store_true", help="one epoch, 16 dimensions: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/avgpool.json"))
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    kept = json.loads(o.out.read_text(encoding="utf8"))["rows"] if o.out.exists() else []
    for name in [*o.data, *([o.folder] if o.folder else [])]:
        collection(load(name, limit=o.limit), o, kept)
    heads = ["data", "row", "validation MRR@10", "test MRR@10", "test nDCG@10", "training, s"]
    print(table(heads, lines(kept)))


if __name__ == "__main__":
    guarded(main)
