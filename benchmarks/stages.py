"""What each stage of a search is worth and what it costs: recall by BM25, towers and both, a re-ranker, a page of ten.

    python benchmarks/stages.py --model DIR --ranker DIR [--data pydocs|FOLDER] [--split test] [--recall 1000] [--rerank 100]
        [--depths 10 30 100 300] [--weights 1 0.5 0.3 0.1] [--timed 300] [--threads 1] [--out benchmarks/measured/stages.json]

--model: towers' folder; --ranker: a folder of `two_towers.rerank.CrossEncoder`. The corpus is encoded anew; k1 and b of BM25
are picked as `evaluate` does. The weight of the re-ranker against the list it is given is picked among --weights on at most
500 queries of validation (without such a split: 1, the re-ranker alone). Quality: all judged queries of the split. Times:
--timed of them, asked one at a time, by the wall's clock. Each pair is scored truly while the clock runs, then remembered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ladder import guarded
from timing import set_threads
from vectors import write


class Remembered:
    """A ranker that keeps every score, and once `asleep` asks the true one only for pairs that are new."""

    def __init__(self, ranker: Any) -> None:
        self.ranker, self.known, self.asleep = ranker, {}, False

    def score(self, query: str, texts: Any) -> np.ndarray:
        """(n,) higher is better."""
        new = [t for t in dict.fromkeys(texts) if (query, t) not in self.known] if self.asleep else list(texts)
        if new:
            self.known.update(zip([(query, t) for t in new], np.asarray(self.ranker.score(query, new)).tolist(), strict=True))
        return np.array([self.known[query, t] for t in texts], np.float32)


def open_ranker(folder: str) -> Any:
    """What `--ranker` names."""
    from two_towers.rerank import CrossEncoder

    return CrossEncoder.load(folder)


def picked(weights: list[float], ranker: Any, recall: Any, data: Any, depth: int) -> tuple[float, str]:
    """The best of the weights on validation, and how it came about."""
    from two_towers.evaluate import primary
    from two_towers.metrics import measure
    from two_towers.stages import Rerank

    if "validation" not in data.splits or data.judgements_differ:
        return 1.0, "the re-ranker alone: no validation split of the same kind"
    split = data.validation.sample(500)
    run, metric = recall({q: split.queries[q] for q in split.qrels}), primary(split.qrels)

    def value(weight: float) -> float:
        again = Rerank(ranker, data.corpus, depth, weight)({q: split.queries[q] for q in split.qrels}, run)
        return measure(again, split.qrels, [metric]).mean(metric)

    found = {w: value(w) for w in weights}
    return max(found, key=found.__getitem__), f"picked by {metric} on {len(split.qrels)} validation queries"


def measured(o: argparse.Namespace) -> dict[str, Any]:
    """The whole: the trace's numbers, and quality by depth and weight."""
    from two_towers.data import load
    from two_towers.evaluate import evaluate
    from two_towers.index import ExactIndex
    from two_towers.lexical import BM25
    from two_towers.metrics import compare, measure
    from two_towers.stages import Dense, Fused, Lexical, Rerank, Show, Stages, perfect
    from two_towers.towers import DualEncoder

    data, model = load(o.data), DualEncoder.load(o.model)
    split, ids, ranker = data.split(o.split), list(data.corpus), Remembered(open_ranker(o.ranker))
    report = evaluate(model, split, progress=False)
    tokens = model.lexical_tokens(data.corpus)
    size = max(model.tokenizer.vocab_size, 1 + int(np.max(tokens.ids, initial=1)))
    recall = Fused(Lexical(BM25(tokens, ids, size, report.k1, report.b), model.lexical_tokens, o.recall),
                   Dense(model, ExactIndex(model.encode_texts(data.corpus, side="document"), ids), o.recall))
    ranker.asleep = True  # a weight changes no score of a pair
    weight, how = picked(o.weights, ranker, recall, data, o.rerank)
    ranker.asleep = False
    trace = Stages([recall, Rerank(ranker, data.corpus, o.rerank, weight), Show(10)]).trace(split, o.timed)
    found, run = trace.to_dict(), trace.runs["both"]
    metric, asked = found["metric"], {q: split.queries[q] for q in split.qrels}
    before = measure(run, split.qrels, [metric])
    better = compare(measure(trace.runs["re-ranked"], split.qrels, [metric]), before, metric)

    ranker.asleep, depths = True, []
    for depth in sorted(o.depths):
        runs = {w: Rerank(ranker, data.corpus, depth, w)(asked, run) for w in o.weights}
        depths.append({"depth": depth,
                       "perfect": measure(perfect(run, split.qrels, depth), split.qrels, [metric]).mean(metric),
                       "weights": {f"{w:g}": measure(r, split.qrels, [metric]).mean(metric) for w, r in runs.items()}})
    one = next(r["ms"] for r in found["rows"] if r["stage"] == "re-ranked") / min(o.rerank, len(ids))
    for row in depths:
        row["ms"] = one * row["depth"]  # the true clock of --rerank documents, a document
    return {"trace": found, "weight": weight, "how": how, "bm25": report.bm25, "threads": o.threads,
            "recalled": before.mean(metric), "depths": depths,
            "gain": {"diff": better.diff, "lo": better.lo, "hi": better.hi, "p": better.p}}


def main() -> None:
    """Reads the options, measures, writes the file, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs", help="a name, or a folder in BEIR's layout")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", required=True, help="the towers' folder")
    parser.add_argument("--ranker", required=True, help="the cross-encoder's folder")
    parser.add_argument("--recall", type=int, default=1000)
    parser.add_argument("--rerank", type=int, default=100)
    parser.add_argument("--depths", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 0.5, 0.3, 0.1])
    parser.add_argument("--timed", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/stages.json"))
    o = parser.parse_args()
    set_threads(o.threads)
    from two_towers.stages import table

    found = measured(o)
    write(o.out, found)
    print(table(found["trace"]))
    gain = found["gain"]
    print(f"\nre-ranked - both: {gain['diff']:+.4f} [{gain['lo']:+.4f}, {gain['hi']:+.4f}], p = {gain['p']:.4f}; "
          f"weight {found['weight']:g}, {found['how']}", file=sys.stderr)


if __name__ == "__main__":
    guarded(main)
