"""What the benchmarks share: tasks that take turns on one clock, and a Markdown table of what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Give every library that many threads (None: one for each core). Call it before torch is imported."""
    threads = threads or cores()
    os.environ.update(dict.fromkeys(LIBRARIES, str(threads)), TOKENIZERS_PARALLELISM=str(threads > 1).lower())
    import torch

    torch.set_num_threads(threads)
    return threads


def clock(threads: int) -> Callable[[], float]:
    """On one thread processor time, in which a busy machine does not show; on more the wall's."""
    return time.process_time if threads == 1 else time.perf_counter


def medians(rounds: int, tick: Callable[[], float], *tasks: Callable[[], Any]) -> list[float]:
    """The median time of each task, the tasks taking turns, after one turn that does not count."""
    times: list[list[float]] = [[] for _ in tasks]
    for turn in range(rounds + 1):
        for task, mine in zip(tasks, times, strict=True):
            start = tick()
            task()
            if turn:
                mine.append(tick() - start)
    return [median(mine) for mine in times]


def row(name: str, ours: float, peer: float, unit: str) -> dict[str, Any]:
    """One line of the table. ratio above 1: ours is better. Of seconds less is better, of all else more."""
    ratio = peer / ours if unit == "s" else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit}


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))


def number(x: float) -> str:
    """1234.5 -> 1,234; 0.0123 -> 0.012: three digits that count."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
