"""The metrics against ir_measures, and against pytrec_eval, which does the counting inside it.

    python benchmarks/metrics_speed.py [--queries 1000] [--depth 1000] [--rounds 5] [--threads N]

That the values are equal is checked first. MRR goes without a cut-off: ir_measures gives RR@10 to another counter, MS
MARCO's script, which orders equal scores otherwise than trec_eval does.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from timing import clock, medians, number, row, set_threads

OURS = ("MRR", "nDCG@10", "Recall@10", "Recall@100")
THEIRS = ("RR", "nDCG@10", "R@10", "R@100")
TREC = ("recip_rank", "ndcg_cut_10", "recall_10", "recall_100")


def made_up(queries: int, depth: int, seed: int = 0) -> tuple[dict, dict]:
    """A run of `depth` documents a query, with ties, and 20 graded judgements a query, most of them in the run."""
    rng = np.random.default_rng(seed)
    run, qrels = {}, {}
    for q in range(queries):
        found = rng.choice(10 * depth, depth, replace=False)
        run[f"q{q}"] = dict(zip((f"d{d}" for d in found), np.round(rng.random(depth), 3).tolist()))
        judged = [*rng.choice(found, 15, replace=False), *rng.choice(10 * depth, 5)]
        qrels[f"q{q}"] = {f"d{d}": int(g) for d, g in zip(judged, rng.integers(0, 4, 20))}
    return run, qrels


def run(queries: int = 1000, depth: int = 1000, rounds: int = 5, threads: int | None = None) -> list[dict[str, Any]]:
    """Queries per second: one row against ir_measures, one against pytrec_eval."""
    import ir_measures
    import pytrec_eval

    from two_towers.metrics import measure

    tick = clock(set_threads(threads))
    ran, qrels = made_up(queries, depth)
    parsed = [ir_measures.parse_measure(name) for name in THEIRS]

    def mine() -> dict[str, float]:
        scores = measure(ran, qrels, OURS)
        return {name: scores.mean(name) for name in OURS}

    def peer() -> dict[str, float]:
        found = ir_measures.calc_aggregate(parsed, qrels, ran)
        return {name: found[m] for name, m in zip(OURS, parsed, strict=True)}

    def pytrec() -> dict[str, float]:
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank", "ndcg_cut.10", "recall.10,100"})
        found = evaluator.evaluate(ran).values()
        return {name: float(np.mean([q[theirs] for q in found])) for name, theirs in zip(OURS, TREC, strict=True)}

    rows = []
    for name, theirs in (("ir_measures", peer), ("pytrec_eval", pytrec)):
        values, expected = mine(), theirs()
        for metric, value in values.items():
            assert abs(value - expected[metric]) < 1e-6, f"{metric}: {value} here, {expected[metric]} by {name}"
        ours, other = medians(rounds, tick, mine, theirs)
        title = f"{len(values)} metrics of {queries:,} queries x {depth:,} documents (peer: {name})"
        rows.append(row(title, queries / ours, queries / other, "queries/s"))
    return rows


def main() -> None:
    """Reads the options and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    o = parser.parse_args()
    for r in run(o.queries, o.depth, o.rounds, o.threads):
        print(f"{r['name']:70}{number(r['ours']):>10}{number(r['peer']):>10} {r['unit']}  ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
