"""Exact search against faiss.IndexFlatIP: queries per second, at equal results, on as many threads.

    python benchmarks/search_speed.py [--sizes 38000 680000] [--queries 1 100 1000] [--k 10 1000] [--rounds 5] [--threads 2]

Random unit vectors of 256 numbers. The two take turns; the ratio is of their best rounds. The index alone also sorts ties.
On one thread the clock counts processor time, so that a busy machine does not show; on more it is the wall's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

DIM = 256


def best(rounds: int, clock: Callable[[], float], *tasks: Callable[[], Any]) -> list[float]:
    """The shortest time of each task, the tasks taking turns."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, mine in zip(tasks, times, strict=True):
            start = clock()
            task()
            mine.append(clock() - start)
    return [min(mine) for mine in times]


def run(sizes: tuple[int, ...] = (38_000, 680_000), queries: tuple[int, ...] = (1, 100, 1000), ks: tuple[int, ...] = (10, 1000),
        rounds: int = 5, threads: int | None = None) -> list[dict[str, Any]]:
    """One row for each size, number of queries and k: name, ours, peer, ratio (above 1: ours is faster), unit."""
    import faiss
    import numpy as np

    from two_towers.index import ExactIndex

    threads = threads or os.cpu_count() or 1
    faiss.omp_set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    rng, rows = np.random.default_rng(0), []
    for size in sizes:
        vectors = rng.standard_normal((size, DIM), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        flat = faiss.IndexFlatIP(DIM)
        flat.add(vectors)
        index = ExactIndex(vectors, [str(i) for i in range(size)])
        for number in queries:
            asked = rng.standard_normal((number, DIM), dtype=np.float32)
            asked /= np.linalg.norm(asked, axis=1, keepdims=True)
            for k in ks:
                same = (index.search(asked, k)[1] == flat.search(asked, k)[1]).mean()
                assert same > 0.95, f"only {same:.1%} of the hits agree"  # near ties may stand in another order
                turns = rounds if size * number < 10**8 else max(2, rounds // 2)
                ours, peer = best(turns, clock, partial(index.search, asked, k), partial(flat.search, asked, k))
                rows.append({"name": f"{size:,} documents, {number} queries, k = {k}", "ours": number / ours,
                             "peer": number / peer, "ratio": peer / ours, "unit": "queries/s"})
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=(38_000, 680_000))
    parser.add_argument("--queries", type=int, nargs="+", default=(1, 100, 1000))
    parser.add_argument("--k", type=int, nargs="+", default=(10, 1000))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    a = parser.parse_args()
    print(f"{'':44}{'ours':>10}{'FAISS':>10}{'ratio':>8}")
    for row in run(tuple(a.sizes), tuple(a.queries), tuple(a.k), a.rounds, a.threads):
        print(f"{row['name']:44}{row['ours']:10.1f}{row['peer']:10.1f}{row['ratio']:8.2f}  {row['unit']}")


if __name__ == "__main__":
    main()
