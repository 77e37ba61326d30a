"""A piece of work in a process of its own that meets a kill, a full disk, or another process at a chosen file (see faults.py)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link"}  # os.replace is a rename, too
Work = Sequence[Any] | Callable[[], object]  # a command line of two-towers, or a function


@dataclass
class Ended:
    """How a process ended: its exit status (None: killed), the files it touched, and its standard error."""

    code: int | None
    said: str
    touched: list[str] = field(default_factory=list)


@dataclass
class Begun:
    """A process under way: its id, and where it writes how it ended, and its standard error."""

    pid: int
    result: int
    errors: int


def call(work: Work) -> int:
    """The exit status of a piece of work; what a function raises is told as the command line tells it."""
    from two_towers.cli import main

    if not callable(work):
        return main([str(a) for a in work])
    try:
        work()
    except (ValueError, OSError) as e:
        print(f"two-towers: {' '.join(str(e).split())}", file=sys.stderr)
        return 2
    return 0


def quietly(work: Work) -> tuple[int, str]:
    """A piece of work in this process: its exit status and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = call(work)
    return code, err.getvalue()


def begin(work: Work, folder: Path, at: int = 0, blow: Callable[[], None] | None = None) -> Begun:
    """Start it; just before its `at`-th touch of a file below `folder` it meets with `blow`."""
    (ours, theirs), (heard, said) = os.pipe(), os.pipe()
    if pid := os.fork():
        os.close(theirs)
        os.close(said)
        return Begun(pid, ours, heard)
    touched: list[str] = []

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event in TOUCHES and given and str(folder) in str(given[0]):
            touched.append(f"{event} {str(given[0]).partition(str(folder))[2]}")
            if len(touched) == at and blow:
                blow()

    code = 99
    try:
        os.close(ours)
        os.close(heard)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full disk is an error, and no signal
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
        sys.addaudithook(watch)
        code = call(work)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(theirs, json.dumps([code, touched]).encode())
        os._exit(0)


def finish(begun: Begun, after: float | None = None, most: float = 60) -> Ended:
    """Wait for it; `after` so many seconds it is killed, and after `most` as one that hangs."""
    hangs = not select.select([begun.result], [], [], most if after is None else after)[0]
    if hangs:
        os.kill(begun.pid, signal.SIGKILL)
    got, said = (b"".join(iter(lambda end=end: os.read(end, 1 << 16), b"")) for end in (begun.result, begun.errors))
    os.waitpid(begun.pid, 0)
    os.close(begun.result)
    os.close(begun.errors)
    text = said.decode(errors="replace")
    if not got:
        return Ended(None, text + ("hangs\n" if hangs and after is None else ""))
    code, touched = json.loads(got)
    return Ended(code, text, touched)


def run(work: Work, folder: Path, at: int = 0, blow: Callable[[], None] | None = None, after: float | None = None) -> Ended:
    """`begin`, then `finish`."""
    return finish(begin(work, folder, at, blow), after)


def kill() -> None:
    """The end of this process, at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    """From now on no file of this process can grow: each write fails with an OSError, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextlib.contextmanager
def held(work: Work, folder: Path, at: int) -> Any:
    """That work, stopped just before its `at`-th touch while the block runs; gives a function that lets it go on to its end."""
    (stopped, there), (here, go) = os.pipe(), os.pipe()

    def hold() -> None:
        os.write(there, b"x")
        os.read(here, 1)

    begun = begin(work, folder, at, hold)

    def go_on() -> Ended:
        os.write(go, b"x")
        return finish(begun)

    try:
        select.select([stopped, begun.result], [], [], 60)
        yield begun.pid, go_on
    finally:
        for end in (stopped, there, here, go):
            os.close(end)


def lines(said: str) -> list[str]:
    """The lines of standard error but for the notes."""
    return [line for line in said.splitlines() if not line.startswith("two-towers: note: ")]


def refused(code: int | None, said: str) -> str:
    """What is wrong with how a command said no; "": exit status 2 and one line that can be printed."""
    told = lines(said)
    well = code == 2 and len(told) == 1 and told[0].startswith("two-towers: ") and told[0].isprintable()
    return "" if well else f"exit {code}: {said[-900:]!r}"


def left_over(folder: Path) -> list[str]:
    """Temporary files and locks below a folder."""
    found = [p for p in folder.rglob("*") if p.name.endswith(".tmp") or ".tmp." in p.name or p.name == ".lock"]
    return [str(p.relative_to(folder)) for p in found]
