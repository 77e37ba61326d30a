"""Malformed input, by the hundred: model folders, shards, runs, corpora, boards, word vectors, requests (see faults.py).

Each input is made from a good one by a random generator of its own, given to the function that the command line calls, in a
process whose memory is bounded, and must be taken for what it is: read where it still makes sense, or refused in one line.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killed import Work, left_over, lines, quietly, refused
from spoil import reseal, spoil_one
from undisturbed import TRAIN, Place, beir, shards

SPARE, SECONDS = 2 << 30, 20  # bytes that an input may cost beyond what the process holds; seconds that it may take
METHODS = ["GET"] * 6 + ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"]
PATHS = ["/search"] * 6 + ["/healthz", "/docs", "/", "/../etc", "/search/", "/openapi.json", "/%00", "/" + "a" * 500]
HOSTS = ["localhost"] * 6 + ["", "[::1]", "[", "evil.example", "127.0.0.1:99999", ":"]
HEADERS = [{}, {}, {"accept": "\x80"}, {"range": "bytes=0-9"}, {"content-length": "9"}, {"x": "y" * 9999}]
VALUES = ["bees", "", " ", "\ud800", "\x00", "a" * 3999, "a" * 4001, "a" * 30_000, "%ff%fe", "é" * 50, "?" * 9, "<script>", "🐝",
          "0", "-1", "10", "1e3", "9" * 400, "NaN", "hybrid", "bm25", "towers", "reranked", "true", "[]", "10.0"]


@dataclass
class Kind:
    """Inputs of one kind: a good one, how it is made worse, what reads it, and what must not be there if it is refused."""

    name: str
    times: int
    good: Path
    work: Callable[[Path], Work] | None
    worse: Callable[[Path, random.Random], str] = spoil_one
    writes: str = ""
    app: Any = None  # of requests


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    refused: int = 0
    read: int = 0
    lost: list[str] = field(default_factory=list)


def request(app: Any, rng: random.Random) -> tuple[str, int, str]:
    """A request that nobody should send: what it was, the status, and the answer where that is no sentence."""
    from starlette.testclient import TestClient

    pairs = [(rng.choice(["q", "q", "k", "by", "q[]", ""]), rng.choice(VALUES)) for _ in range(rng.randint(0, 5))]
    parts = [f"{key}={value}" if rng.random() < 0.8 else value[:99] for key, value in pairs]
    query = "&".join(parts).encode("utf8", "replace").decode()
    method, path, headers = rng.choice(METHODS), rng.choice(PATHS), {"host": rng.choice(HOSTS)} | rng.choice(HEADERS)
    what, sent = f"{method} {path[:40]}?{query[:60]}", {k: v.encode("latin1") for k, v in headers.items()}
    body = rng.choice([None, None, b"\xff" * 99, b"{}"])
    try:
        client = TestClient(app, base_url="http://localhost")
        answer = client.request(method, f"{path}?{query}" if query else path, content=body, headers=sent)
    except Exception as e:
        if type(e).__module__.startswith("httpx") or isinstance(e, UnicodeEncodeError):
            return what, 400, ""  # it could not even be sent
        raise
    well = answer.status_code in (200, 307) or method == "HEAD" and answer.status_code < 500
    if not well and 400 <= answer.status_code < 500:
        said = answer.json().get("error", "")
        well = isinstance(said, str) and 0 < len(said) < 400 and said.isprintable()
    return what, answer.status_code, "" if well else answer.text[:200]


def one(kind: Kind, number: int, seed: int, place: Path) -> tuple[str, str]:
    """Input `number`: ("read", "refused" or "lost", and what it was with what came of it)."""
    rng, what, folder = random.Random(f"{seed} {kind.name} {number}"), "", place / f"{number}"
    try:
        if kind.work is None:
            what, status, wrong = request(kind.app, rng)
            return ("lost" if wrong else "read" if status < 400 else "refused"), f"{what}: {status} {wrong}"
        shutil.copytree(kind.good, folder)
        what = kind.worse(folder, rng)
        code, err = quietly(kind.work(folder))
        wrong = refused(code, err) if code or lines(err) else ""
        if not wrong and (left := left_over(folder)):
            wrong = f"left behind: {left}"
        if not wrong and code and kind.writes and (folder / kind.writes).exists():
            wrong = f"refused, and {kind.writes} is there"
        return ("lost" if wrong else "refused" if code else "read"), f"{what}: {wrong or err.strip()}"
    except BaseException as e:
        return "lost", f"{what}: {type(e).__name__}: {str(e)[:200]} {traceback.format_exc().splitlines()[-3:-1]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker(kind: Kind, start: int, times: int, seed: int, place: Path) -> tuple[int, int]:
    """A process that works through inputs from `start` on; its id, and where it writes a line for each."""
    ours, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        return pid, ours
    try:
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)
        for number in range(start, times):
            os.write(theirs, (json.dumps(one(kind, number, seed, place)) + "\n").encode())
    finally:
        os._exit(0)


def try_all(kind: Kind, times: int, seed: int, place: Path, show: Callable[[str], None] = lambda line: None) -> Tally:
    """All inputs of a kind, in processes of their own: one that crashes or hangs is lost, and the next goes on behind it."""
    tally, done = Tally(), 0
    place.mkdir(parents=True)
    if kind.work and (wrong := quietly(kind.work(Path(shutil.copytree(kind.good, place / "good"))))) != (0, ""):
        raise ValueError(f"{kind.name}: the good one is not read: exit {wrong[0]}: {wrong[1]}")
    while done < times:
        pid, ours = worker(kind, done, times, seed, place)
        rest = b""
        while (ready := bool(select.select([ours], [], [], SECONDS)[0])) and (got := os.read(ours, 1 << 16)):
            *told, rest = (rest + got).split(b"\n")
            for line in told:
                outcome, what = json.loads(line)
                show(f"{kind.name} {done}: {outcome}: {what}")
                tally.lost += [f"{kind.name} {done}: {what}"] * (outcome == "lost")
                tally.refused += outcome == "refused"
                tally.read += outcome == "read"
                done += 1
        os.close(ours)
        if done < times:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if done < times:
            why = f"the process ended with status {status}" if ready else f"more than {SECONDS} s"
            tally.lost.append(f"{kind.name} {done}: {why}")
            show(tally.lost[-1])
            done += 1
    shutil.rmtree(place, ignore_errors=True)
    return tally


def rows(data: Any) -> list[dict[str, Any]]:
    """A collection as rows like MS MARCO's."""
    texts, made = list(data.corpus.values())[:6], []
    for split in data.splits:
        for i, (q, judged) in enumerate(data.qrels[split].items()):
            passages = {"is_selected": [int(d in judged) for d in list(data.corpus)[:6]], "url": ["u"] * 6, "passage_text": texts}
            made.append({"query": data.queries[q], "query_id": i, "query_type": "x", "answers": ["y"], "passages": passages})
    return made


def documents(texts: list[str], folder: Path) -> None:
    """A folder of documents, one of each kind that can be read."""
    cells = [{"cell_type": kind, "source": [text]} for kind, text in zip(("markdown", "code"), texts)]
    for name, text in {
        "a.md": "# Bees\n\n" + "\n\n".join(texts[:3]),
        "b.html": f"<html><title>t</title><h1>Ships</h1><p>{texts[4]}<table><tr><td>x",
        "c.csv": "id,text\n" + "\n".join(f'{i},"{t}"' for i, t in enumerate(texts[5:9])),
        "d.ipynb": json.dumps({"nbformat": 4, "cells": cells}),
        "e.py": f'"""{texts[10]}"""\n',
        "f.json": json.dumps([{"text": t} for t in texts[12:15]]),
        "g.rst": f"Head\n====\n\n{texts[16]}",
        "h.tsv": f"text\tid\n{texts[17]}\t1",
    }.items():
        (folder / name).write_text(text)


def kinds(place: Place) -> list[Kind]:
    """All kinds, their good inputs made below the place's folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from two_towers.app import create
    from two_towers.data import load
    from two_towers.engine import SearchEngine
    from two_towers.metrics import write_qrels, write_run
    from two_towers.shards import open_shards
    from two_towers.workshop import Board, submit

    good, data = place.folder / "kinds", load("sample")
    for name in ("run", "parquet", "rows", "own", "vectors", "holds"):
        (good / name).mkdir(parents=True)
    write_run({q: {d: 1 / (i + 1) for i, d in enumerate(data.corpus)} for q in data.test.queries}, good / "run/run.trec")
    write_qrels(data.qrels["test"], good / "run/qrels.txt")
    beir(data, good / "beir")
    pq.write_table(pa.Table.from_pylist(rows(data)), good / "parquet/train-0.parquet")
    for name in ("train", "test"):
        (good / f"rows/{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(data)))
    documents(list(data.corpus.values()), good / "own")
    words = sorted({w.strip(".,") for t in data.corpus.values() for w in t.lower().split()})[:60]
    (good / "vectors/v.txt").write_text(f"{len(words)} 8\n" + "".join(f"{w} {'0.5 ' * 7}1\n" for w in words))
    shutil.copytree(place.model, good / "holds/model", ignore=shutil.ignore_patterns("index", "tensorboard"))
    shards(place, good / "shards")()
    board = Path(shutil.copytree(place.board, good / "board"))
    submit(board / "run.trec", "Kernel Kittens", Board.open(board))

    def encode(folder: Path) -> Callable[[], None]:
        def work() -> None:
            shards(place, folder)()
            if sum(len(ids) for ids, vectors in open_shards(folder) if len(ids) == len(vectors)) != len(place.corpus):
                raise RuntimeError("shards that are not whole")
        return work

    def sealed(folder: Path, rng: random.Random) -> str:
        return reseal(folder / "model", rng)

    few = ["train", "--data", "sample", "--dim", "8", "--epochs", "1", "--batch", "16", "--pretrain", "none"]
    measure = ["--data", "sample", "--run-out"]

    def ask(folder: Path) -> Work:
        return ["search", folder, "bees in winter"]

    return [
        Kind("model folders, searched", 200, place.model, ask),
        Kind("model folders with checksums that fit, searched", 200, place.model, ask, reseal),
        Kind("model folders, `train --update`", 60, place.model, lambda f: ["train", "--update", "--data", "sample", "--out", f]),
        Kind("model folders, `evaluate --run-out`", 60, good / "holds",
             lambda f: ["evaluate", f / "model", *measure, f / "run.trec"], sealed, "run.trec"),
        Kind("model folders, `export`", 60, good / "holds", lambda f: ["export", f / "model", "--to", f / "out"], sealed, "out"),
        Kind("shards of vectors, gone on with", 80, good / "shards", encode),
        Kind("checkpoints, gone on with", 60, place.cut, lambda f: [*TRAIN, "--out", f, "--resume"]),
        Kind("folders of trainings, `runs`", 40, place.cut, lambda f: ["runs", f]),
        Kind("runs and qrels, `score`", 150, good / "run", lambda f: ["score", f / "run.trec", f / "qrels.txt"]),
        Kind("BEIR folders", 120, good / "beir", lambda f: ["data", f]),
        Kind("MS MARCO rows as parquet", 80, good / "parquet", lambda f: ["data", f]),
        Kind("MS MARCO rows as JSON lines", 80, good / "rows", lambda f: ["data", f]),
        Kind("folders of documents", 150, good / "own", lambda f: ["data", f]),
        Kind("boards and runs, `submit`", 80, place.board, lambda f: ["submit", f / "run.trec", "--team", "us", "--board", f]),
        Kind("boards, `leaderboard --html`", 80, board, lambda f: ["leaderboard", "--board", f, "--html", f / "page.html"],
             writes="page.html"),
        Kind("word vectors", 40, good / "vectors", lambda f: [*few, "--vectors", f / "v.txt", "--out", f / "out"], writes="out"),
        Kind("requests to the service", 300, good, None, app=create(SearchEngine.open(place.model))),
    ]
