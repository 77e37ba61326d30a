"""Kills, full disks, malformed input and two writers at once: what was tried, how often, and what was lost.

    python benchmarks/faults.py [--quick] [--seed 0] [--out benchmarks/measured/faults.json]
    python benchmarks/faults.py --table | --readme

The first form does it all, on the embedded sample with tiny settings, each piece of work in a process of its own, and writes
the file. --quick: a few of each, and writes only where --out says. --table prints the file as Markdown, --readme puts that
table into README.md. The row of load is what service.py has measured, where it has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from killed import full, held, kill, left_over, lines, refused, run
from ladder import guarded
from malformed import kinds, try_all
from undisturbed import Job, Place, jobs
from vectors import write

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "measured" / "faults.json"
BEGIN, END = "<!-- faults: written by benchmarks/faults.py -->", "<!-- /faults -->"
KILLS = {"`train`": 18, "`encode_shards`": 10, "`train --update`": 12, "`submit`": 10}
MAIN = [sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())"]
FULL = "disk full (simulated: no file may grow)"
CAME = {"landed": "died of it", "refused": "refused in one line", "told": "told which process is at it", "read": "read"}


def kills(place: Place, job: Job, wanted: int, draw: random.Random) -> dict[str, Any]:
    """kill -9 at random moments, by the clock and at a file in turn, until `wanted` have come before the end of the work."""
    began, lost, landed, times, probe = time.perf_counter(), [], 0, 0, place.copy(job.start)
    ended, seconds = place.timed(job.work(place, probe), probe)
    while landed < wanted and times < 4 * wanted:
        folder = place.copy(job.start)
        moment = {"after": draw.random() * seconds} if times % 2 else {"at": draw.randint(1, len(ended.touched)), "blow": kill}
        landed += run(job.work(place, folder), folder, **moment).code is None
        if wrong := job.check(place, folder):
            lost.append(f"{job.name} at {moment.get('at') or moment.get('after')}: {wrong}")
        shutil.rmtree(folder, ignore_errors=True)
        times += 1
    return row("kill -9", f"{job.name}: {job.holds}", times, lost, began, landed=landed)


def disk(place: Place, job: Job, most: int) -> dict[str, Any]:
    """No write succeeds from one moment on: at every touch of a file, or at `most` of them, spread."""
    began, lost, no, probe = time.perf_counter(), [], 0, place.copy(job.start)
    touches = len(run(job.work(place, probe), probe).touched)
    n = min(most, touches)
    moments = sorted({1 + round(i * (touches - 1) / max(1, n - 1)) for i in range(n)})
    for at in moments:
        folder = place.copy(job.start)
        ended = run(job.work(place, folder), folder, at, full)
        no += ended.code == 2
        wrong = refused(ended.code, ended.said) if ended.code or lines(ended.said) else ""
        if not wrong and folder.exists() and (left := left_over(folder)):
            wrong = f"left behind: {left}"
        if wrong := wrong or job.check(place, folder):
            lost.append(f"{job.name} at {at} of {touches}: {wrong}")
        shutil.rmtree(folder, ignore_errors=True)
    return row(FULL, f"{job.name}, at each file: one line, exit status 2; then as above", len(moments), lost, began, refused=no)


def two(place: Place, job: Job, times: int, draw: random.Random) -> dict[str, Any]:
    """One command twice for one folder: the first is stopped while it holds the lock, the second comes, the first goes on."""
    began, lost, no, told, probe = time.perf_counter(), [], 0, 0, place.copy(job.start)
    touched = run(job.work(place, probe), probe).touched
    locks = [i for i, what in enumerate(touched, 1) if what.endswith("/.lock")]
    for n in range(times):
        folder, at = place.copy(job.start), draw.randint(locks[0] + 1, locks[-1])  # before the lock's file is removed
        work = job.work(place, folder)
        with held(work, folder, at) as (pid, go_on):
            second = run([*work, "--resume"] if n % 2 else work, folder)
            first = go_on()
        no += not refused(second.code, second.said)
        told += f"process {pid} is training there" in second.said
        wrong = "" if first.code == 0 else f"the first: exit {first.code}: {first.said[-300:]}"
        if wrong := wrong or refused(second.code, second.said) or job.check(place, folder):
            lost.append(f"{job.name}, stopped at {at}, {touched[at - 1]}: {wrong}")
        shutil.rmtree(folder, ignore_errors=True)
    what = f"{job.name} into one folder: the first ends well, the second is refused"
    return row("two at once", what, times, lost, began, refused=no, told=told)


def malformed(place: Place, share: float, seed: int) -> list[dict[str, Any]]:
    """Every kind of malformed input; and some of them again by a command line of its own, which has to say the same."""
    made, listed = [], kinds(place)
    for n, kind in enumerate(listed):
        start, times = time.perf_counter(), max(1, int(kind.times * share))
        tally = try_all(kind, times, seed, place.folder / "malformed" / str(n))
        made.append(row("malformed", kind.name, times, tally.lost, start, refused=tally.refused, read=tally.read))
    began, lost, no, times = time.perf_counter(), [], 0, 20 if share >= 1 else 1
    asked = [(k, k.work) for k in listed if k.work and not callable(k.work(k.good))]
    for n in range(times):
        kind, work = asked[n % len(asked)]
        folder = place.copy(kind.good)
        how = kind.worse(folder, random.Random(f"{seed} by command {n}"))
        done = subprocess.run([*MAIN, *map(str, work(folder))], capture_output=True, text=True, timeout=60, check=False)
        no += done.returncode == 2
        if done.returncode and (wrong := refused(done.returncode, done.stderr)):
            lost.append(f"{kind.name}, {how}: {wrong}")
        shutil.rmtree(folder)
    what = "some of these again, each by a command of its own"
    return [*made, row("malformed", what, times, lost, began, refused=no, read=times - no - len(lost))]


def row(fault: str, what: str, times: int, lost: list[str], began: float, **more: int) -> dict[str, Any]:
    """A row of the file, told as it is made."""
    print(f"{fault}: {what}: {times} times, {len(lost)} lost {more}", *lost, sep="\n    ", file=sys.stderr, flush=True)
    examples = [re.sub(r"(?<!\w)(/[\w.+-]+)+/", "", text) for text in lost[:3]]  # no paths of this machine
    seconds = round(time.perf_counter() - began, 1)
    return {"fault": fault, "what": what, "times": times, "lost": len(lost), **more, "seconds": seconds, "examples": examples}


def everything(folder: Path, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """All rows. quick: a few of each."""
    torch.set_num_threads(1)  # threads do not survive a fork
    began, draw, place = time.perf_counter(), random.Random(seed), Place(folder)
    four = jobs(place)
    found = [kills(place, job, 2 if quick else KILLS[job.name], draw) for job in four]
    found += [disk(place, job, 2 if quick else 1000) for job in four]
    found += [two(place, job, 1 if quick else 6, draw) for job in four if job.name in ("`train`", "`train --update`")]
    found += malformed(place, 0.01 if quick else 1, seed)
    seconds = round(time.perf_counter() - began)
    return {"seed": seed, "seconds": seconds, "lost": sum(r["lost"] for r in found), "rows": found}


def load_row(path: Path) -> str:
    """The table's line about load, from what service.py has measured."""
    measured = json.loads(path.read_text())["rows"] if path.is_file() else []
    found = [r for r in measured if "s of load" in r["what"]]
    if not found:
        return "| load | `serve` under minutes of searches | not run | | |"
    m, about = found[-1]["measured"], f"{found[-1]['what']}, {found[-1]['documents']:,} documents"
    memory = f"memory {m['MB before']} MB before, {m['MB after']} MB after"
    return f"| load | `serve`, {about} | {m['queries']:,} | {memory} | {m['errors']} |"


def table(found: dict[str, Any]) -> str:
    """The file as Markdown."""
    made = ["| fault | what, and what has to hold | times | came of it | lost |", "|---|---|---|---|---|"]
    for r in found["rows"]:
        came = ", ".join(f"{r[key]:,} {said}" for key, said in CAME.items() if key in r)
        made.append(f"| {r['fault']} | {r['what']} | {r['times']:,} | {came} | {r['lost']} |")
    return "\n".join([*made, load_row(OUT.with_name("service.json"))])


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
    if o.table or o.readme:
        found = json.loads((o.out or OUT).read_text(encoding="utf8"))
        return renew(ROOT / "README.md", found) if o.readme else print(table(found))
    with tempfile.TemporaryDirectory() as folder:
        found = everything(Path(folder), o.seed, o.quick)
    if o.out or not o.quick:
        write(o.out or OUT, found)
    print(table(found))
    return None


if __name__ == "__main__":
    guarded(main)
