"""Kills, full disks, malformed input and two writers at once: what was tried, how often, and what was lost.

    python benchmarks/faults.py [--quick] [--seed 0] [--out benchmarks/measured/faults.json]
    python benchmarks/faults.py --table | --readme

The first form does it all, on the embedded sample with tiny settings, each command in a process of its own, and writes
the file. --quick: a few of each, in under a minute, and writes only where --out says. --table prints the file as Markdown,
--readme puts that table into README.md. The row of load is what service.py has measured, where it has.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ladder import guarded
from malformed import Tally, beir, kinds, left_over, try_all
from vectors import write

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "measured" / "faults.json"
TRAIN = ["train", "--data", "sample", "--dim", "8", "--batch", "16", "--epochs", "2", "--negatives", "both"]
TOUCHES = {
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.link",
}  # os.replace tells of itself as os.rename
BEGIN, END = "<!-- faults: written by benchmarks/faults.py -->", "<!-- /faults -->"
KILLS, QUICK = {"train": 24, "update": 13, "submit": 13}, {"train": 3, "update": 3, "submit": 3}


@dataclass
class Ended:
    """How a process ended: its exit status (None: killed), files touched so far, and its standard error."""

    code: int | None
    touched: int
    said: str


def begin(argv: Sequence[Any], folder: Path, at: int = 0, blow: Callable[[], None] | None = None) -> tuple[int, int, int]:
    """A command line in a process of its own; at the `at`-th touch of a file below `folder` it meets with `blow`."""
    (ours, theirs), (heard, said) = os.pipe(), os.pipe()
    if pid := os.fork():
        os.close(theirs)
        os.close(said)
        return pid, ours, heard
    touched, code = 0, 99

    def watch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in TOUCHES and given and str(folder) in str(given[0]):
            touched += 1
            if touched == at and blow:
                blow()

    try:
        os.close(ours)
        os.close(heard)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
        from two_towers.cli import main

        sys.addaudithook(watch)
        code = main([str(a) for a in argv])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(theirs, f"{code} {touched}".encode())
        os._exit(0)


def finish(begun: tuple[int, int, int], after: float | None = None, most: float = 60) -> Ended:
    """Wait for a process; `after` so many seconds it is killed, and after `most` as one that hangs."""
    pid, ours, heard = begun
    if not select.select([ours], [], [], most if after is None else after)[0]:
        os.kill(pid, signal.SIGKILL)
    got, said = os.read(ours, 100), b""
    while part := os.read(heard, 1 << 16):
        said += part
    os.waitpid(pid, 0)
    os.close(ours)
    os.close(heard)
    code, touched = map(int, got.split()) if got else (None, 0)
    return Ended(code, touched, said.decode(errors="replace") + ("" if got or after is not None else "hangs\n"))


def run(
    argv: Sequence[Any], folder: Path, at: int = 0, blow: Callable[[], None] | None = None, after: float | None = None
) -> Ended:
    """`begin`, then `finish`."""
    return finish(begin(argv, folder, at, blow), after)


def kill() -> None:
    """The end of this process, at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    """From now on every write of this process fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def refused(ended: Ended) -> str:
    """What is wrong with how a command said no; "": exit status 2 and one line."""
    lines = [line for line in ended.said.splitlines() if not line.startswith("two-towers: note: ")]
    well = ended.code == 2 and len(lines) == 1 and lines[0].startswith("two-towers: ")
    return "" if well else f"exit {ended.code}: {ended.said[-900:]!r}"


class Place:
    """The good things that faults are done to: a model, a changed collection to update it to, a board; and work on copies."""

    def __init__(self, folder: Path):
        from two_towers.data import load
        from two_towers.metrics import write_run
        from two_towers.workshop import new_board

        self.folder, self.count, data = folder, 0, load("sample")
        self.model, self.cut, self.board = folder / "model", folder / "cut", folder / "board"
        self.seconds: dict[str, float] = {}
        self.whole = self.timed("train", [*TRAIN, "--out", self.model], self.model)
        self.weights = (self.model / "model.safetensors").read_bytes()
        self.names = names(self.model)
        run([*TRAIN, "--out", self.cut], self.cut, at=self.whole.touched // 2, blow=kill)
        (self.cut / ".lock").unlink(missing_ok=True)
        other = {
            k: (t if i % 3 else f"{t} Changed.") for i, (k, t) in enumerate(data.corpus.items()) if i % 5 or k in _judged(data)
        }
        data.corpus = other | {"new": "A document that was not there before."}
        self.changed = folder / "changed"
        beir(data, self.changed)
        self.old, self.new = ids(self.model), set(data.corpus)
        board = new_board(self.board, load("sample"))
        write_run(
            {q: {d: 1 / (i + 1) for i, d in enumerate(board.facts["documents"])} for q in board.queries}, self.board / "run.trec"
        )

    def copy(self, what: Path) -> Path:
        """A copy of a folder to do harm to."""
        self.count += 1
        made = self.folder / "work" / str(self.count)
        if what.exists():
            shutil.copytree(what, made)
        made.parent.mkdir(exist_ok=True)
        return made

    def timed(self, name: str, argv: Sequence[Any], folder: Path) -> Ended:
        """A command that nothing happens to, and its seconds."""
        start, ended = time.perf_counter(), run(argv, folder)
        if ended.code:
            raise ValueError(f"{name} fails undisturbed: {ended.said}")
        self.seconds[name] = time.perf_counter() - start
        return ended


def _judged(data: Any) -> set[str]:
    return {d for of in data.qrels.values() for grades in of.values() for d in grades}


def names(folder: Path) -> set[str]:
    """The files of a folder, but TensorBoard's, which count attempts."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts}


def ids(folder: Path) -> set[str]:
    """Documents of the index in a model's folder, after a search."""
    from two_towers.engine import SearchEngine

    engine = SearchEngine.open(folder)
    engine.search("bees in winter", 3)
    return set(engine.texts.row)


def whole_again(place: Place, folder: Path) -> str:
    """Go on with a training; what is not as it would have been, or ""."""
    ended = run([*TRAIN, "--out", folder, "--resume"], folder)
    if ended.code:
        return f"--resume: exit {ended.code}: {ended.said[-300:]}"
    if (folder / "model.safetensors").read_bytes() != place.weights:
        return "other weights"
    if names(folder) != place.names or left_over(folder):
        return f"other files: {names(folder) ^ place.names} {left_over(folder)}"
    return "" if ids(folder) == place.old else "another index"


def updated_again(place: Place, folder: Path) -> str:
    """What is wrong with an index after a fault: it opens as the old or as the new one, and the next update ends well."""
    try:
        found = ids(folder)
    except (ValueError, OSError) as e:
        return f"does not open: {e}"
    if found not in (place.old, place.new):
        return f"neither old nor new: {len(found)} documents"
    ended = run(update(place, folder), folder)
    if ended.code or ids(folder) != place.new or left_over(folder):
        return f"the next update: exit {ended.code}: {ended.said[-300:]} {left_over(folder)}"
    return ""


def counted_once(place: Place, folder: Path) -> str:
    """What is wrong with a board after a fault: the entry is there or not, and handing in again leaves it there once."""
    from two_towers.workshop import Board, entries

    board, noted = Board.open(folder), []
    handler = logging.Handler()
    handler.emit = lambda record: noted.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("two_towers").addHandler(handler)
    try:
        before = len(entries(board))
        ended = run(submit(place, folder), folder)
        after = len(entries(board))
    finally:
        logging.getLogger("two_towers").removeHandler(handler)
    well = before in (0, 1) and after == 1 and not ended.code and not noted
    return "" if well else f"{before} entries, then {after}; exit {ended.code} {ended.said[-300:]} {noted}"


def train(place: Place, folder: Path) -> list[Any]:
    """The command line of a training."""
    return [*TRAIN, "--out", folder]


def update(place: Place, folder: Path) -> list[Any]:
    """The command line that brings an index up to date."""
    return ["train", "--update", "--data", place.changed, "--out", folder]


def submit(place: Place, folder: Path) -> list[Any]:
    """The command line that hands in a run."""
    return ["submit", place.board / "run.trec", "--team", "Kernel Kittens", "--board", folder]


def commands(place: Place) -> dict[str, tuple[Callable[..., list[Any]], Path, Callable[[Place, Path], str]]]:
    """Name -> command line, what it starts from, and the check afterwards."""
    return {
        "train": (train, place.folder / "nothing", whole_again),
        "update": (update, place.model, updated_again),
        "submit": (submit, place.board, counted_once),
    }


def kills(place: Place, rounds: dict[str, int], draw: random.Random) -> list[dict[str, Any]]:
    """kill -9 at random moments, half by the clock, half at a file."""
    rows = []
    said = {
        "train": "`train`: gone on with, the same weights to the bit",
        "update": "`train --update`: the old index or the new one",
        "submit": "`submit`: counted once, or not yet",
    }
    for name, (line, start, check) in commands(place).items():
        began, lost, landed = time.perf_counter(), [], 0
        probe = place.copy(start)
        touches = place.timed(name, line(place, probe), probe).touched
        for n in range(rounds[name]):
            folder, clock = place.copy(start), n % 2
            moment = {"after": draw.random() * place.seconds[name]} if clock else {"at": draw.randint(1, touches), "blow": kill}
            landed += run(line(place, folder), folder, **moment).code is None
            if wrong := check(place, folder):
                lost.append(f"{name} {moment}: {wrong}")
            shutil.rmtree(folder)
        rows.append(row("kill -9", said[name], rounds[name], lost, began, landed=landed))
    return rows


def disk(place: Place, most: int) -> list[dict[str, Any]]:
    """No write succeeds from one moment on: at every touch of a file, or at `most` of them, spread."""
    rows = []
    for name, (line, start, check) in commands(place).items():
        began, lost, said_no = time.perf_counter(), [], 0
        probe = place.copy(start)
        touches = run(line(place, probe), probe).touched
        moments = (
            sorted({1 + i * (touches - 1) // max(1, most - 1) for i in range(most)}) if touches > most else range(1, touches + 1)
        )
        for at in moments:
            folder = place.copy(start)
            ended = run(line(place, folder), folder, at, full)
            said_no += ended.code == 2
            wrong = "" if ended.code == 0 else refused(ended)
            if not wrong and folder.exists() and (left := left_over(folder)):
                wrong = f"left behind: {left}"
            if wrong := wrong or check(place, folder):
                lost.append(f"{name} at {at} of {touches}: {wrong}")
            shutil.rmtree(folder, ignore_errors=True)
        rows.append(
            row(
                "disk full",
                f"`{' --'.join([*{'update': ['train']}.get(name, []), name])}`, at each file: one line, exit "
                "status 2, and what stood there stays",
                len(moments),
                lost,
                began,
                refused=said_no,
            )
        )
    return rows


def two(place: Place, rounds: int, draw: random.Random) -> list[dict[str, Any]]:
    """Two commands for one folder: one is held at a file while the other comes, then goes on."""
    began, lost, told = time.perf_counter(), [], 0
    table = commands(place)
    for n in range(rounds):
        name = ("train", "update")[n % 2]
        line, start, check = table[name]
        folder, (wait, go), (here, there) = place.copy(start), os.pipe(), os.pipe()
        at = draw.randint(2, 20)

        def hold(wait: int = wait, there: int = there) -> None:
            os.write(there, b"x")
            os.read(wait, 1)

        first = begin(line(place, folder), folder, at, hold)
        select.select([here, first[1]], [], [], 60)
        second = run(line(place, folder), folder)
        os.write(go, b"x")
        held = finish(first)
        for end in (wait, go, here, there):
            os.close(end)
        codes, no = sorted([held.code, second.code]), held if held.code else second
        wrong = "" if codes == [0, 2] else f"exits {codes}: {held.said} {second.said}"
        told += "is training there" in no.said
        wrong = wrong or refused(no) or check(place, folder)
        if wrong:
            lost.append(f"{name}, held at {at}: {wrong}")
        shutil.rmtree(folder)
    return [
        row(
            "two at once",
            "`train`, or `train --update`, into one folder: one wins, the other is told who holds it",
            rounds,
            lost,
            began,
            refused=told,
        )
    ]


def malformed(place: Place, share: float, seed: int) -> list[dict[str, Any]]:
    """Every kind of malformed input; and twenty of them by the real command line, which has to say the same."""
    rows, began, tallies = [], time.perf_counter(), 0
    listed = kinds(place.folder / "kinds", place.model, place.cut, place.board, TRAIN)
    for kind in listed:
        start = time.perf_counter()
        tally: Tally = try_all(kind, max(2, int(kind.times * share)), seed, place.folder / "malformed" / kind.name)
        tallies += 1
        rows.append(
            row(
                "malformed",
                kind.name,
                tally.refused + tally.read + len(tally.lost),
                tally.lost,
                start,
                refused=tally.refused,
                read=tally.read,
            )
        )
    began, lost, no, times = time.perf_counter(), [], 0, 20 if share >= 1 else 2
    main = [sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())"]
    asked = [kind for kind in listed if kind.argv]
    for n in range(times):
        kind, folder = asked[n % len(asked)], place.copy(asked[n % len(asked)].good)
        how = kind.worse(folder, random.Random(f"{seed} by command {n}"))
        done = subprocess.run([*main, *map(str, kind.argv(folder))], capture_output=True, text=True, timeout=60, check=False)
        no += done.returncode == 2
        if done.returncode and (wrong := refused(Ended(done.returncode, 0, done.stderr))):
            lost.append(f"{kind.name}, {how}: {wrong}")
        shutil.rmtree(folder)
    return [
        *rows,
        row("malformed", "some of these again, by the installed command", times, lost, began, refused=no, read=times - no),
    ]


def row(fault: str, what: str, times: int, lost: list[str], began: float, **more: int) -> dict[str, Any]:
    """A row of the file, told as it is made."""
    print(f"{fault}: {what}: {times} times, {len(lost)} lost {more}", *lost, sep="\n    ", file=sys.stderr, flush=True)
    return {
        "fault": fault,
        "what": what,
        "times": times,
        "lost": len(lost),
        **more,
        "seconds": round(time.perf_counter() - began, 1),
        "examples": [text.replace(tempfile.gettempdir(), "") for text in lost[:3]],
    }


def load_row(path: Path | None = None) -> str:
    """The table's line about load, from what service.py has measured."""
    path = path or OUT.with_name("service.json")
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    found = [r for r in rows if "s of load" in r["what"]]
    if not found:
        return "| load | `serve` under minutes of searches | not run | | |"
    m, about = found[-1]["measured"], found[-1]
    return (
        f"| load | `serve`, {about['what']}, {about['documents']:,} documents | {m['queries']:,} searches | memory "
        f"{m['MB before']} MB before, {m['MB after']} MB after | {m['errors']} errors |"
    )


def table(found: dict[str, Any]) -> str:
    """The file as Markdown."""
    lines = ["| fault | what, and what has to hold | times | came of it | lost |", "|---|---|---|---|---|"]
    for r in found["rows"]:
        came = [
            f"{r[key]:,} {said}"
            for key, said in (("landed", "died of it"), ("refused", "refused in one line"), ("read", "read for what they are"))
            if key in r
        ]
        lines.append(f"| {r['fault']} | {r['what']} | {r['times']:,} | {', '.join(came)} | {r['lost']} |")
    return "\n".join([*lines, load_row()])


def renew(readme: Path, found: dict[str, Any]) -> None:
    """Put the table between the two marks of README.md, in one step."""
    text = readme.read_text(encoding="utf8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme}: the marks {BEGIN} and {END} must stand there once each")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    temporary = readme.with_name(f"{readme.name}.{os.getpid()}.tmp")
    temporary.write_text(f"{head}{BEGIN}\n\n{table(found)}\n\n{END}{tail}", encoding="utf8")
    os.replace(temporary, readme)


def main() -> None:
    """Reads the options; tries everything, or shows what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few of each, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="print what was found, as Markdown")
    parser.add_argument("--readme", action="store_true", help="put that table into README.md")
    o = parser.parse_args()
    out = o.out or OUT
    if o.table or o.readme:
        found = json.loads(out.read_text(encoding="utf8"))
        return renew(ROOT / "README.md", found) if o.readme else print(table(found))
    torch.set_num_threads(1)  # threads do not survive a fork
    began, draw = time.perf_counter(), random.Random(o.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        rows = kills(place, QUICK if o.quick else KILLS, draw) + disk(place, 3 if o.quick else 1000)
        rows += two(place, 2 if o.quick else 12, draw) + malformed(place, 0.02 if o.quick else 1, o.seed)
    found = {"seed": o.seed, "seconds": round(time.perf_counter() - began), "lost": sum(r["lost"] for r in rows), "rows": rows}
    if o.out or not o.quick:
        write(out, found)
    print(table(found))
    return None


if __name__ == "__main__":
    guarded(main)
