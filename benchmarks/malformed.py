"""Malformed input, by the hundred: model folders, checkpoints, runs, corpora, boards, word vectors and requests (see faults.py).

Each input is made from a good one by a random generator of its own, given to the function that the command line calls, in a
process whose memory is bounded, and must be taken for what it is: read where it still makes sense, or refused in one line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPARE, SECONDS = 2 << 30, 20  # bytes that an input may cost beyond what the process holds; seconds that it may take
ODD = [None, True, -1, 0, 3, 0.5, 1e308, float("nan"), 10**30, "", "x", "\ud800", "../..", [], {}, [[[]]], {"a": {}}, ["x", 1]]
PIECES = [
    b"\xff\xfe",
    b"\x00",
    b"nan",
    b"1e999",
    b"-1",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'"',
    b"\t\t",
    b"\\ud800",
    b"\r",
    b"<![",
    b"<!--",
    b"&#x110000;",
    "\u2028".encode(),
    b"inf",
    b"\x1b[2J",
    b"PK\x03\x04",
    b"\x1f\x8b\x08\x00",
]
HEADERS = [b"(1000000000000, 1000000)", b"(-1, 16)", b"()", b"(2,)", b"(True, 3)", b"('a',)", b"(0, 16)"]


def at_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, left out, overwritten, or with something odd put in."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    way = rng.randrange(8)
    if way == 0:
        out = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            if out:
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        return bytes(out)
    return (
        data[:a],
        b"",
        data[:b] + data[a:],
        data[:a] + data[b:],
        data[:a] + bytes(b - a) + data[b:],
        data[:a] + rng.choice(PIECES) + data[a:],
        rng.randbytes(rng.randint(1, 200)),
    )[way - 1]


def at_json(value: Any, rng: random.Random) -> Any:
    """The same with one place of another type, gone, or new."""
    node, path = value, []
    while isinstance(node, dict | list) and node and (not path or rng.random() < 0.7):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(min(len(node), 40))
        path.append((node, key))
        node = node[key]
    if not path:
        return rng.choice(ODD)
    holder, key = path[-1]
    if rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.1:
        holder["unheard of"] = rng.choice(ODD)
    else:
        holder[key] = rng.choice(ODD)
    return value


def spoil(path: Path, rng: random.Random) -> str:
    """One file made worse in place, in a way that suits its kind; returns how."""
    data, kind = path.read_bytes(), path.suffix
    with contextlib.suppress(ValueError, RecursionError, struct.error, UnicodeDecodeError):
        if kind in (".json", ".ipynb") and rng.random() < 0.7:
            path.write_text(json.dumps(at_json(json.loads(data), rng)))
            return "a value changed"
        if kind == ".jsonl" and rng.random() < 0.6:
            rows = data.decode().splitlines()
            row = rng.randrange(len(rows))
            rows[row] = json.dumps(at_json(json.loads(rows[row]), rng))
            path.write_text("\n".join(rows) + "\n")
            return "a value changed"
        if kind == ".safetensors" and rng.random() < 0.7:
            (size,) = struct.unpack("<Q", data[:8])
            head = json.loads(data[8 : 8 + size])
            about = head.get("__metadata__", {}).get("about")
            if about and rng.random() < 0.6:
                head["__metadata__"]["about"] = json.dumps(at_json(json.loads(about), rng))
            else:
                head = at_json(head, rng)
            text = json.dumps(head).encode()
            size = rng.choice([len(text)] * 6 + [2**63 - 1, len(data)])
            path.write_bytes(struct.pack("<Q", size) + text + data[8 + struct.unpack("<Q", data[:8])[0] :])
            return "its header changed"
        if kind == ".npy" and rng.random() < 0.6:
            shape = data[data.index(b"(", 10) : data.index(b")", 10) + 1]
            new = rng.choice(HEADERS) if rng.random() < 0.7 else shape
            head = data[10:128].replace(shape, new, 1)
            if new == shape:
                head = head.replace(
                    data[data.index(b"<", 10) :][:3], rng.choice([b"<c8", b"|O ", b"<f8", b"<U9", b"<M8", b"<i2"]), 1
                )
            head = head.rstrip()[:117].ljust(117) + b"\n"
            path.write_bytes(data[:8] + struct.pack("<H", len(head)) + head + data[128:])
            return "its header changed"
    path.write_bytes(at_bytes(data, rng))
    return "bytes changed"


def spoil_one(folder: Path, rng: random.Random) -> str:
    """One or two files of a folder made worse, swapped, or gone."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    a, b = rng.choice(files), rng.choice(files)
    way = rng.random()
    if way < 0.1:
        a.unlink()
        how = "gone"
    elif way < 0.2 and a != b:
        held = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(held)
        how = f"swapped with {b.relative_to(folder)}"
    elif way < 0.25:
        a.unlink()
        a.mkdir()
        how = "a folder"
    else:
        how = spoil(a, rng)
    return f"{a.relative_to(folder)}: {how}"


def reseal(folder: Path, rng: random.Random) -> str:
    """A model's folder made worse, all its checksums right again: what somebody could hand on with intent."""
    from two_towers.engine import _sha256

    how = spoil_one(folder, rng)
    with contextlib.suppress(ValueError, TypeError, KeyError, OSError, RecursionError, AttributeError):
        config = json.loads((folder / "config.json").read_bytes())
        config["files"] = {name: _sha256(folder / name) for name in config["files"]}
        (folder / "config.json").write_text(json.dumps(config))
        about = json.loads((folder / "index/about.json").read_bytes())
        about["model"] = config["files"]["model.safetensors"]
        about["files"] = {name: _sha256(folder / "index" / name) for name in about["files"]}
        (folder / "index/about.json").write_text(json.dumps(about))
    return f"{how}, checksums made to fit"


@dataclass
class Kind:
    """Inputs of one kind: a good one in `good`, how it is made worse, and the command that reads it."""

    name: str
    times: int
    good: Path
    argv: Callable[[Path], list[Any]] | None
    worse: Callable[[Path, random.Random], str] = spoil_one
    app: Any = None  # of requests


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    refused: int = 0
    read: int = 0
    lost: list[str] = field(default_factory=list)


def said_well(code: int, err: str) -> bool:
    """Exit status 0, or 2 with one line that says why; notes are lines of their own."""
    lines = [line for line in err.splitlines() if not line.startswith("two-towers: note: ")]
    return (
        code == 0
        and not lines
        or code == 2
        and len(lines) == 1
        and lines[0].startswith("two-towers: ")
        and lines[0].isprintable()
    )


def command(argv: list[Any]) -> tuple[int, str]:
    """A command line in this process: its exit status and standard error."""
    from two_towers.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in argv])
    return code, err.getvalue()


def left_over(folder: Path) -> list[str]:
    """Temporary files and locks below a folder."""
    return [
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.endswith(".tmp") or ".tmp." in p.name or p.name == ".lock"
    ]


def request(kind: Kind, rng: random.Random) -> tuple[str, int, str]:
    """A request that nobody should send: what it was, the status, and the answer where that is no sentence."""
    from starlette.testclient import TestClient

    texts = [
        "bees",
        "",
        " ",
        "\ud800",
        "\x00",
        "a" * rng.choice([3999, 4001, 30_000]),
        "%ff%fe",
        "é" * 50,
        "?" * 9,
        "<script>",
        "🐝",
    ]
    values = [*texts, "0", "-1", "10", "1e3", "9" * 400, "NaN", "hybrid", "bm25", "towers", "reranked", "true", "[]", "10.0"]
    pairs = [(rng.choice(["q", "q", "k", "by", "q[]", ""]), rng.choice(values)) for _ in range(rng.randint(0, 5))]
    query = "&".join(
        f"{k}={v.encode('utf8', 'replace').decode()}" if rng.random() < 0.8 else v[:99].encode("utf8", "replace").decode()
        for k, v in pairs
    )
    path = rng.choice(
        ["/search"] * 6 + ["/healthz", "/docs", "/", "/../etc", "/search/", "/openapi.json", "/%00", "/" + "a" * 500]
    )
    method = rng.choice(["GET"] * 6 + ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
    headers = {"host": rng.choice(["localhost"] * 6 + ["", "[::1]", "[", "evil.example", "127.0.0.1:99999", ":"])}
    headers |= rng.choice([{}, {}, {"accept": "\x80"}, {"range": "bytes=0-9"}, {"content-length": "9"}, {"x": "y" * 9999}])
    body = rng.choice([None, None, b"\xff" * 99, b"{}"])
    try:
        answer = TestClient(kind.app, base_url="http://localhost").request(
            method,
            path + ("?" + query if query else ""),
            content=body,
            headers={k: v.encode("latin1") for k, v in headers.items()},
        )
    except ValueError as e:
        if type(e).__module__.startswith("httpx") or isinstance(e, UnicodeError) and "encode" in type(e).__name__.lower():
            return f"{method} {path[:40]}", 400, ""  # it could not even be sent
        raise
    except Exception as e:
        if type(e).__module__.startswith("httpx"):
            return f"{method} {path[:40]}", 400, ""
        raise
    well = 200 <= answer.status_code < 300 or answer.status_code == 307 or method == "HEAD" and answer.status_code < 500
    if not well and 400 <= answer.status_code < 500:
        said = answer.json().get("error", "")
        well = isinstance(said, str) and 0 < len(said) < 400 and said.isprintable()
    return f"{method} {path[:40]}?{query[:60]}", answer.status_code, "" if well else answer.text[:200]


def one(kind: Kind, number: int, seed: int, place: Path) -> tuple[str, str]:
    """Input `number`: ("read", "refused" or "lost", and what it was with what came of it)."""
    rng, what = random.Random(f"{seed} {kind.name} {number}"), ""
    folder = place / f"{number}"
    try:
        if kind.argv is None:
            what, status, wrong = request(kind, rng)
            return ("lost" if wrong else "read" if status < 400 else "refused"), f"{what}: {status} {wrong}"
        shutil.copytree(kind.good, folder)
        what = kind.worse(folder, rng)
        code, err = command(kind.argv(folder))
        if not said_well(code, err):
            return "lost", f"{what}: exit {code}: {err[:300]}"
        if left := left_over(folder):
            return "lost", f"{what}: left behind: {left}"
        return ("refused" if code else "read"), f"{what}: {err.strip()}"
    except BaseException as e:
        return "lost", f"{what}: {type(e).__name__}: {str(e)[:200]} {traceback.format_exc().splitlines()[-3:-1]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bounded() -> None:
    """This process may take SPARE bytes more of address space, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)


def worker(kind: Kind, start: int, times: int, seed: int, place: Path) -> tuple[int, int]:
    """A process that works through inputs from `start` on; its id, and where it writes a line for each."""
    ours, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        return pid, ours
    try:
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        bounded()
        for number in range(start, times):
            os.write(theirs, (json.dumps(one(kind, number, seed, place)) + "\n").encode())
    finally:
        os._exit(0)


def try_all(kind: Kind, times: int, seed: int, place: Path, show: Callable[[str], None] = lambda line: None) -> Tally:
    """All inputs of a kind, in processes of their own: one that crashes or hangs is lost, and the next goes on behind it."""
    tally, done = Tally(), 0
    place.mkdir(parents=True)
    while done < times:
        pid, ours = worker(kind, done, times, seed, place)
        held = b""
        while True:
            ready = select.select([ours], [], [], SECONDS)[0]
            got = os.read(ours, 1 << 16) if ready else b""
            if not got:
                break
            *lines, held = (held + got).split(b"\n")
            for line in lines:
                outcome, what = json.loads(line)
                show(f"{kind.name} {done}: {outcome}: {what}")
                if outcome == "lost":
                    tally.lost.append(f"{kind.name} {done}: {what}")
                else:
                    setattr(tally, outcome, getattr(tally, outcome) + 1)
                done += 1
        os.close(ours)
        if done < times:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if done < times:
            why = f"more than {SECONDS} s" if not ready else f"the process ended with status {status}"
            tally.lost.append(f"{kind.name} {done}: {why}")
            show(tally.lost[-1])
            done += 1
    shutil.rmtree(place, ignore_errors=True)
    return tally


def kinds(place: Path, model: Path, cut: Path, board: Path, train: list[str]) -> list[Kind]:
    """All kinds. model: a finished folder; cut: one whose training was cut off, begun with options `train`; board: a board."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from two_towers.app import create
    from two_towers.data import load
    from two_towers.engine import SearchEngine
    from two_towers.metrics import write_qrels, write_run

    data = load("sample")
    for name in ("run", "beir", "parquet", "rows", "own", "vectors", "page"):
        (place / name).mkdir(parents=True)
    write_run({q: {d: 1 / (i + 1) for i, d in enumerate(data.corpus)} for q in data.test.queries}, place / "run/run.trec")
    write_qrels(data.qrels["test"], place / "run/qrels.txt")
    beir(data, place / "beir")
    rows = [
        {
            "query": data.queries[q],
            "query_id": i,
            "query_type": "x",
            "answers": ["y"],
            "passages": {
                "is_selected": [int(d in judged) for d in list(data.corpus)[:6]],
                "url": ["u"] * 6,
                "passage_text": list(data.corpus.values())[:6],
            },
        }
        for s in data.splits
        for i, (q, judged) in enumerate(data.qrels[s].items())
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "parquet/train-0.parquet")
    for name in ("train", "test"):
        (place / f"rows/{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    texts = list(data.corpus.values())
    own = {
        "a.md": "# Bees\n\n" + "\n\n".join(texts[:3]),
        "b.html": f"<html><title>t</title><h1>Ships</h1><p>{texts[4]}<table><tr><td>x",
        "c.csv": "id,text\n" + "\n".join(f'{i},"{t}"' for i, t in enumerate(texts[5:9])),
        "e.py": f'"""{texts[10]}"""\n',
        "d.ipynb": json.dumps(
            {"nbformat": 4, "cells": [{"cell_type": k, "source": [t]} for k, t in zip(("markdown", "code"), texts)]}
        ),
        "f.json": json.dumps([{"text": t} for t in texts[12:15]]),
        "g.rst": "Head\n====\n\n" + texts[16],
        "h.tsv": "text\tid\n" + texts[17] + "\t1",
    }
    for name, text in own.items():
        (place / "own" / name).write_text(text)
    vocabulary = sorted({w.strip(".,") for t in texts for w in t.lower().split()})[:60]
    (place / "vectors/v.txt").write_text(f"{len(vocabulary)} 8\n" + "".join(f"{w} {'0.5 ' * 7}1\n" for w in vocabulary))
    few = ["train", "--data", "sample", "--dim", "8", "--epochs", "1", "--batch", "16", "--pretrain", "none"]
    return [
        Kind("model folders", 200, model, lambda f: ["search", f, "bees in winter"]),
        Kind("model folders with checksums that fit", 200, model, lambda f: ["search", f, "bees in winter"], reseal),
        Kind("checkpoints", 60, cut, lambda f: [*train, "--out", f, "--resume"]),
        Kind("folders of trainings, listed", 40, cut, lambda f: ["runs", f]),
        Kind("runs and qrels", 150, place / "run", lambda f: ["score", f / "run.trec", f / "qrels.txt"]),
        Kind("BEIR folders", 120, place / "beir", lambda f: ["data", f]),
        Kind("MS MARCO rows as parquet", 80, place / "parquet", lambda f: ["data", f]),
        Kind("MS MARCO rows as JSON lines", 80, place / "rows", lambda f: ["data", f]),
        Kind("folders of documents", 150, place / "own", lambda f: ["data", f]),
        Kind("boards and runs handed in", 80, board, lambda f: ["submit", f / "run.trec", "--team", "us", "--board", f]),
        Kind("word vectors", 40, place / "vectors", lambda f: [*few, "--vectors", f / "v.txt", "--out", f / "out"]),
        Kind("requests", 300, place / "page", None, app=create(SearchEngine.open(model))),
    ]


def beir(data: Any, folder: Path) -> None:
    """A collection as a BEIR folder."""
    from two_towers.metrics import write_qrels

    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, texts in (("corpus", data.corpus), ("queries", data.queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in texts.items()))
    for split in data.splits:
        write_qrels(data.qrels[split], folder / "qrels" / f"{split}.tsv")


def counted(tallies: dict[str, Tally]) -> Counter[str]:
    """All tallies in one."""
    return Counter(
        {
            "refused": sum(t.refused for t in tallies.values()),
            "read": sum(t.read for t in tallies.values()),
            "lost": sum(len(t.lost) for t in tallies.values()),
        }
    )


if __name__ == "__main__":
    print("python benchmarks/faults.py does it all", file=sys.stderr)
    sys.exit(2)
