"""Twenty trainings, ended at random moments by SIGKILL or Ctrl-C and gone on with: the same files as if nothing had happened."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from two_towers.cli import main
from two_towers.recipe import check_folder

TRAIN = ("train", "--data", "sample", "--dim", "8", "--batch", "16", "--epochs", "2", "--negatives", "both")
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}  # os.replace tells of itself as os.rename
ROUNDS = 20


def attempt(folder: Path, *more: str, by: int = 0, at: int = 0, after: float | None = None) -> tuple[bool, list[str]]:
    """Train in a process of its own, to be ended by the signal `by`: at its `at`-th touch of a file below `folder`, or `after`
    so many seconds, wherever it is then. Returns whether the signal ended it, and how it touched which files."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def body() -> None:
        touched: list[str] = []

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event in WRITES and str(folder) in str(arguments[0]):
                touched.append(f"{event} {str(arguments[0]).partition(str(folder))[2]}")
                if len(touched) == at:
                    os.kill(os.getpid(), by)

        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)  # threads do not survive a fork
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            sys.addaudithook(watch)
            code = None
            try:
                there.send("ready")
                code = main([*TRAIN, "--out", str(folder), *more])
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late
            except KeyboardInterrupt:  # just before `main`, or just after it
                code = 130 if code is None else code
        there.send((code, touched, said.getvalue()))

    process = context.Process(target=body)
    process.start()
    there.close()
    try:
        assert here.recv() == "ready"
        if after is not None and not here.poll(after):
            os.kill(process.pid or 0, by)
        code, touched, said = here.recv()
    except EOFError:
        code, touched, said = None, [], ""
    process.join()
    if code is None:
        assert process.exitcode == -signal.SIGKILL == -by, process.exitcode
    else:
        assert code in (0, 130 if by == signal.SIGINT else 0), said
        assert "Traceback" not in said and (code == 0 or said.endswith("two-towers: stopped\n") or not said), said
    return code != 0, touched


def files(folder: Path) -> dict[str, Any]:
    """What is in a folder: bytes, but for times; of TensorBoard's files, which count attempts, nothing."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts):
        name = path.relative_to(folder).as_posix()
        found[name] = path.read_bytes()
        if name == "config.json":
            found[name] = json.loads(found[name])
            del found[name]["about"]["seconds"]
        if name == "metrics.jsonl":
            rows = [json.loads(line) for line in found[name].splitlines()]
            found[name] = [{k: v for k, v in row.items() if "second" not in k} for row in rows]
    return found


def test_twenty_kills(tmp_path: Path) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / "here")]) == 0  # imports what the others then need not
    began = time.perf_counter()
    ended, touches = attempt(tmp_path / "whole")
    seconds, whole = time.perf_counter() - began, files(tmp_path / "whole")
    assert not ended and len(touches) > 30 and whole == files(tmp_path / "here")
    assert {"config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl", "report.md", "index/about.json"} < set(whole)
    draw, landed, found, places = random.Random(14), Counter[str](), Counter[str](), []
    order = draw.sample(range(ROUNDS), ROUNDS)
    for number in range(ROUNDS):
        folder, by, resume = tmp_path / str(number), (signal.SIGKILL, signal.SIGINT)[number % 2], []
        first, moments = order[number], []
        for blow in range(draw.randint(1, 3)):  # the first within this round's twentieth of the whole span
            moments.append((draw.random() if blow else (first + draw.random()) / ROUNDS, draw.random() < 0.5))
        for blow, (share, clock) in enumerate(moments):
            moment = {"after": share * seconds} if clock else {"at": 1 + int(share * len(touches))}
            ended, _ = attempt(folder, *resume, by=by, **moment)
            resume = ["--resume"]
            if not ended:
                break
            landed.update([by.name, "clock" if clock else "file"])
            if not blow:
                landed["first"] += 1
                places += [] if clock else [touches[moment["at"] - 1]]
            found[check_folder(folder, resume=True)] += 1
        assert attempt(folder, "--resume")[0] is False
        again = files(folder)
        assert sorted(again) == sorted(whole), (number, set(again) ^ set(whole))  # no temporary file, checkpoint or lock is left
        assert [name for name in whole if again[name] != whole[name]] == [], number
    assert landed["first"] >= 15 and min(landed[k] for k in ("SIGKILL", "SIGINT", "clock", "file")) >= 5, landed
    assert found["unfinished"] >= 10, found
    assert all(any(what in place for place in places) for what in ("checkpoint", "index", "os.rename")), places
