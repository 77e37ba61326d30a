"""Approximate search: recall against queries per second and bytes per document, at several sizes of the corpus.

    python benchmarks/approximate.py [--data pydocs] [--sizes 38000 680000] [--dim 256] [--queries 1000] [--threads 1]
        [--kinds ivf hnsw hnsw64 hnsw64half hnsw64byte pq int8 binary] [--out benchmarks/measured/approximate.json]

The vectors are a tower's: trained for two epochs on the cloze task and read from random spans of the corpus's texts, as
many different spans as documents are asked for. The queries are the collection's test and validation queries. Exact
search answers all queries in one call; so does every other row. Times: the best of three, on one thread the processor's.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ladder import guarded
from timing import clock, set_threads, table
from vectors import write

SEARCHES: dict[str, tuple[tuple[int | None, ...], int]] = {  # kind: efforts, and how many are scored again (0: none)
    "ivf": ((1, 4, 16, 64, 256), 0),
    "hnsw": ((10, 20, 40, 80, 160, 320), 0),
    "hnsw64": ((10, 20, 40, 80, 160, 320), 0),
    "hnsw64half": ((40, 80, 120, 160, 200, 320), 0),
    "hnsw64byte": ((40, 80, 120, 160, 200, 320), 20),
    "pq": ((None,), 100),
    "int8": ((None,), 100),
    "binary": ((None,), 100),
}
WELL = {"links": 64, "build_effort": 200}
SETTINGS = {"hnsw64": ("hnsw", WELL), "hnsw64half": ("hnsw", WELL | {"bits": 16}),
            "hnsw64byte": ("hnsw", WELL | {"bits": 8})}  # others: a kind, as it comes


def vectors(name: str, size: int, dim: int, queries: int, span: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(size, dim) vectors of spans of so many words, and those of the queries (Q, dim)."""
    import torch

    from two_towers.data import load
    from two_towers.pretrain import inverse_cloze
    from two_towers.towers import DualEncoder
    from two_towers.train import fit

    data = load(name)
    model = DualEncoder.for_corpus(data, dim=dim, lexical=0, progress=False)
    fit(model, inverse_cloze(data.corpus), epochs=2, progress=False)
    tokens, out = model.tokens(data.corpus), np.empty((size, dim), np.float32)
    drawn = different_spans(tokens.lengths, size, span)
    with torch.no_grad():
        for lo in range(0, size, 4096):
            row, start, length = drawn[lo : lo + 4096].T
            out[lo : lo + len(row)] = model.encode_document(tokens.spans(tokens.offsets[row] + start, length)).numpy()
    asked = [text for split in ("test", "validation") if split in data.splits for text in data.split(split).queries.values()]
    return out, model.encode_texts(asked[:queries], side="query")


def different_spans(lengths: np.ndarray, size: int, span: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(size, 3): document, start and length of spans, no two the same: of twins, an index may find the other one."""
    rng, long, found = np.random.default_rng(seed), np.flatnonzero(lengths >= span[0]), np.empty((0, 3), np.int64)
    while len(found) < size:
        row = rng.choice(long, size)
        length = np.minimum(rng.integers(span[0], span[1] + 1, size), lengths[row])
        new = np.unique(np.concatenate([found, np.stack([row, rng.integers(0, lengths[row] - length + 1), length], 1)]), axis=0)
        if len(new) == len(found):
            raise ValueError(f"only {len(new):,} different spans of {span[0]} to {span[1]} words, {size:,} are asked for")
        found = new
    return rng.permutation(found)[:size]


def timed(act: Any, tick: Any, rounds: int = 3) -> tuple[float, Any]:
    """The least of three times, and what came out."""
    times = []
    for _ in range(rounds):
        start = tick()
        found = act()
        times.append(tick() - start)
    return min(times), found


def again_scored(search: Any, queries: np.ndarray, documents: np.ndarray, k: int) -> Any:
    """What `search` finds, scored again by the whole vectors, and the best k of it."""
    from two_towers.approximate import rescored

    return rescored(search()[1], queries, documents, k)


def measured(documents: np.ndarray, queries: np.ndarray, tick: Any, kinds: list[str], k: int = 10) -> list[dict[str, Any]]:
    """A point for exact search and for each of `kinds` and effort."""
    from two_towers.approximate import ApproximateIndex, recall_of
    from two_towers.index import ExactIndex

    ids = [str(i) for i in range(len(documents))]
    exact = ExactIndex(documents, ids)
    exact.search(queries[:10], k)
    base, (_, truth) = timed(lambda: exact.search(queries, k), tick)

    def point(kind: str, effort: int | None, again: int, seconds: float, rows: np.ndarray, held: float,
              build: float) -> dict[str, Any]:
        found = {"kind": kind, "effort": effort, "rescored": again, "recall": round(recall_of(rows, truth), 4)}
        found |= {"queries_per_second": round(len(queries) / seconds, 1), "times_exact": round(base / seconds, 2)}
        print(json.dumps(found), file=sys.stderr, flush=True)
        return found | {"bytes_per_document": round(held, 1), "build_seconds": round(build, 1)}

    points = [point("exact", None, 0, base, truth, 4.0 * documents.shape[1], 0.0)]
    for kind in kinds:
        efforts, again = SEARCHES[kind]
        start = tick()
        made, settings = SETTINGS.get(kind, (kind, {}))
        index = ApproximateIndex(documents, ids, made, **settings)
        build, held = tick() - start, index.bytes_per_document
        for effort in efforts:
            for candidates in sorted({0, again}):
                search = partial(index.search, queries, candidates or k, effort=effort)
                seconds, (_, rows) = timed(partial(again_scored, search, queries, documents, k) if candidates else search, tick)
                points.append(point(kind, effort, candidates, seconds, rows, held, build))
        del index
    return points


def main() -> None:
    """Reads the options, measures, writes the file after each size, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs", help="a name, or a folder in BEIR's layout")
    parser.add_argument("--sizes", type=int, nargs="+", default=[38_000, 680_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=list(SEARCHES), choices=list(SEARCHES), help="beside exact search")
    parser.add_argument("--span", type=int, nargs=2, default=(20, 80), help="words of a document: from, to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/approximate.json"))
    o = parser.parse_args()
    if min(o.sizes) < 100 or o.queries < 1:
        raise ValueError(f"--sizes {min(o.sizes)} --queries {o.queries}: at least 100 documents and one query")
    tick = clock(set_threads(o.threads))
    import faiss

    faiss.omp_set_num_threads(o.threads)
    found: list[dict[str, Any]] = []
    for size in sorted(o.sizes):
        documents, queries = vectors(o.data, size, o.dim, o.queries, tuple(o.span))
        about = {"documents": size, "dim": o.dim, "queries": len(queries), "threads": o.threads}
        found.append(about | {"points": measured(documents, queries, tick, o.kinds)})
        write(o.out, {"data": Path(o.data).name, "sizes": found})
    lines = [[f"{s['documents']:,}", p["kind"], str(p["effort"] or ""), str(p["rescored"] or ""), f"{p['recall']:.3f}",
              f"{p['queries_per_second']:,.0f}", f"{p['times_exact']:.1f}", f"{p['bytes_per_document']:.0f}",
              f"{p['build_seconds']:.0f}"]
             for s in found for p in s["points"]]
    heads = ["documents", "kind", "effort", "scored again", "recall@10", "queries/s", "x exact", "bytes/document", "build, s"]
    print(table(heads, lines))


if __name__ == "__main__":
    guarded(main)
