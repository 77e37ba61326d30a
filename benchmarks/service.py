"""The service over the network, as people would ask it: seconds to start, milliseconds a query, fifty at once.

    python benchmarks/service.py --model DIR [--data NAME|FOLDER] [--queries 300] [--at-once 50] [--threads 2] [--load SECONDS]
        [--out benchmarks/measured/service.json]

DIR is a model's folder with an index. Queries: the collection's, in a fixed order, over one connection after the other. The
server runs in a process of its own with --threads threads of PyTorch and OpenMP, asked from this one, on the same cores.
--load: so many seconds of searches four at a time, and what that does to the server's memory.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from ladder import guarded
from vectors import write

MAIN = [sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())"]


def get(port: int, query: str, by: str) -> tuple[int, float]:
    """Status, and milliseconds from sending to the last byte."""
    start, place = time.perf_counter(), http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    place.request("GET", "/search?" + urlencode({"q": query, "by": by}))
    answer = place.getresponse()
    answer.read()
    place.close()
    return answer.status, 1000 * (time.perf_counter() - start)


def memory(pid: int) -> float:
    """MB that the process holds and shares with nobody, or the page cache of its index."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) / 1024


def measured(o: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows."""
    from two_towers.data import load

    data = load(o.data)
    queries = list(dict.fromkeys(data.queries.values()))[:o.queries]
    env = {**os.environ, "OMP_NUM_THREADS": str(o.threads), "PYTHONUNBUFFERED": "1"}
    begin = time.perf_counter()
    server = subprocess.Popen([*MAIN, "serve", o.model, "--port", "0"], stdout=subprocess.PIPE, text=True, env=env)
    line = server.stdout.readline()
    start, found = time.perf_counter() - begin, re.search(r"127\.0\.0\.1:(\d+)/", line)
    if not found:
        raise ValueError(f"the server did not start: {line.strip()!r}")
    port = int(found[1])
    place = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    place.request("GET", "/healthz")
    health = json.loads(place.getresponse().read())
    about = {"data": data.name, "documents": health["documents"], "threads": o.threads}
    rows = [{**about, "what": "start", "measured": {"seconds": round(start, 1)}}]
    try:
        for by in health["by"]:
            [get(port, q, by) for q in queries[:5]]
            took = [get(port, q, by) for q in queries]
            if bad := [status for status, _ in took if status != 200]:
                raise ValueError(f"{len(bad)} of {len(took)} queries were answered {bad[0]}")
            ms = np.percentile([t for _, t in took], [50, 95])
            rows.append({**about, "what": f"{len(took)} queries by {by}, one after the other",
                         "measured": {"median ms": round(ms[0], 1), "95th percentile ms": round(ms[1], 1)}})
        with ThreadPoolExecutor(o.at_once) as pool:
            took = list(pool.map(lambda q: get(port, q, "hybrid"), (queries * o.at_once)[:10 * o.at_once]))
        errors, ms = sum(status != 200 for status, _ in took), np.percentile([t for _, t in took], [50, 95])
        rows.append({**about, "what": f"{len(took)} queries by hybrid, {o.at_once} at once",
                     "measured": {"errors": errors, "median ms": round(ms[0]), "95th percentile ms": round(ms[1])}})
        if o.load:
            before, until, done = memory(server.pid), time.monotonic() + o.load, 0
            with ThreadPoolExecutor(4) as pool:
                while time.monotonic() < until:
                    answers = list(pool.map(lambda q: get(port, q, "hybrid"), queries))
                    done += len(answers)
                    errors += sum(status != 200 for status, _ in answers)
            rows.append({**about, "what": f"{o.load} s of load, four at a time",
                         "measured": {"queries": done, "errors": errors, "MB before": round(before),
                                      "MB after": round(memory(server.pid))}})
    finally:
        server.terminate()
        server.wait(30)
    return rows


def main() -> None:
    """Reads the options, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "service.json")
    o = parser.parse_args()
    rows = measured(o)
    write(o.out, {"rows": rows})
    for row in rows:
        print(f"{row['data']}, {row['documents']:,} documents, {row['threads']} threads, {row['what']}: "
              + ", ".join(f"{name} {value}" for name, value in row["measured"].items()))


if __name__ == "__main__":
    guarded(main)
