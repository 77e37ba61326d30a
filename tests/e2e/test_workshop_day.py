"""The workshop as it happens: many hand in at once, some are killed, some runs are broken; and its guide says only what is so."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ir_measures
import pytest
import typer

from two_towers.cli import app, main
from two_towers.data import load
from two_towers.exercises import catalogue
from two_towers.leaderboard import leaderboard
from two_towers.metrics import DEFAULT, read_qrels, read_run, write_run
from two_towers.workshop import TEAMS, Board, entries, new_board

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "exercises" / "workshop"
PAGES = {name: (PLACE / f"{name}.md").read_text(encoding="utf-8") for name in ("GUIDE", "BRIEF", "RUBRIC")}
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board, made once."""
    return new_board(tmp_path_factory.mktemp("made") / "board", load("sample")).folder


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Board:
    """A board of one's own."""
    shutil.copytree(made, tmp_path / "board")
    return Board.open(tmp_path / "board")


def a_run(board: Board, path: Path, seed: int) -> Path:
    """A run of random scores, with ties."""
    rng = random.Random(seed)
    rows = {q: {d: rng.choice((0.1, 0.2, rng.random())) for d in rng.sample(board.facts["documents"], 20)} for q in board.queries}
    write_run(rows, path)
    return path


def two_towers(*argv: Any) -> tuple[int, str, str]:
    """Exit status and both streams of a command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(a) for a in argv])
    return code, out.getvalue(), err.getvalue()


def hand_in(board: Path, path: Path, team: str, gate: Any = None, kill_at: int = 0) -> None:
    """In a process of its own: wait for the others, and submit. kill_at: ended by SIGKILL at that touch of a file of the board."""
    touched = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in ("open", "os.link", "os.rename", "os.remove", "os.chmod") and str(board) in str(arguments[0]):
            touched += 1
            if touched == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(watch)
    if gate is not None:
        gate.wait(60)
    os._exit(two_towers("submit", path, "--team", team, "--board", board)[0])


def test_twenty_at_once_and_none_is_lost(board: Board, tmp_path: Path) -> None:
    gate, there = FORK.Barrier(20), []
    for i in range(20):
        path = a_run(board, tmp_path / f"{i}.trec", i % 18)  # two of them twins of others, by another team
        there.append(FORK.Process(target=hand_in, args=(board.folder, path, TEAMS[i % 10] if i < 18 else f"Twins {i}", gate)))
    for p in there:
        p.start()
    for p in there:
        p.join(120)
    assert [p.exitcode for p in there] == [0] * 20
    found = leaderboard(board)
    assert found.submissions == 20 and len(found.rows) == 14 and len(list((board.folder / "secret" / "entries").iterdir())) == 20
    assert {r.name: len(r.history) for r in found.rows if r.history} == {t: 2 - (i > 7) for i, t in enumerate(TEAMS)} | {"Twins 18": 1, "Twins 19": 1}


def test_one_run_twenty_times_at_once_counts_once(board: Board, tmp_path: Path) -> None:
    gate, path = FORK.Barrier(20), a_run(board, tmp_path / "r.trec", 0)
    there = [FORK.Process(target=hand_in, args=(board.folder, path, "Kernel Kittens", gate)) for _ in range(20)]
    for p in there:
        p.start()
    for p in there:
        p.join(120)
    assert [p.exitcode for p in there] == [0] * 20 and len(entries(board)) == 1


def test_killed_at_every_moment_it_is_whole_or_not_there(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcomes, left = [], 0
    for at in range(1, 40):
        shutil.copytree(made, tmp_path / f"{at}" / "board")
        board, path = Board.open(tmp_path / f"{at}" / "board"), a_run(Board.open(made), tmp_path / f"{at}.trec", at)
        folder = board.folder / "secret" / "entries"
        process = FORK.Process(target=hand_in, args=(board.folder, path, "Dropout Disco", None, at))
        process.start()
        process.join(60)
        outcomes.append((process.exitcode, len(entries(board))))
        names = [p for p in folder.iterdir() if not p.name.startswith(".")]
        assert not caplog.records and all(json.loads(p.read_text())["team"] == "Dropout Disco" for p in names)
        for p in folder.glob(".*.tmp"):
            left += 1
            os.utime(p, (0, 0))  # an hour later and more:
        code, _, _ = two_towers("submit", path, "--team", "Dropout Disco", "--board", board.folder)  # not sure? once more
        assert code == 0 and len(entries(board)) == 1 == len(list(folder.iterdir()))  # and what the kill left is swept
        if process.exitcode == 0:
            break
    assert set(outcomes) == {(-signal.SIGKILL, 0), (-signal.SIGKILL, 1), (0, 1)} and left > 0


def test_killed_at_random_moments(board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng, known = random.Random(0), 0
    for i in range(15):
        process = FORK.Process(target=hand_in, args=(board.folder, a_run(board, tmp_path / f"{i}.trec", i), f"team {i % 3}"))
        process.start()
        process.join(rng.uniform(0, 0.05))  # then, wherever it is
        process.kill()
        process.join()
        found = leaderboard(board)
        assert known <= found.submissions <= known + 1 and not caplog.records
        known = found.submissions


@pytest.mark.parametrize(("change", "words"), [
    (lambda s: s.replace("Q0", "", 1), "line 1: 5 columns"),
    (lambda s: "hello\n" + s, "line 1: 1 columns"),
    (lambda s: "q Q0 d 1 1 t\n" + s, "line 1: query 'q' is none of this board's 8"),
    (lambda s: s.replace(s.split()[2], "nowhere", 1), "line 1: document 'nowhere' is none of this board's 50"),
    (lambda s: s + s.splitlines()[0], "line 161: document"),
    (lambda s: s.replace(s.split()[4], "nan", 1), "line 1: the score is 'nan'"),
    (lambda s: s.replace(s.split()[4], "inf", 1), "line 1: the score is 'inf'"),
    (lambda s: s.replace(s.split()[4], "1e99", 1), "line 1: the score is '1e99'"),
    (lambda s: s.replace(s.split()[4], "high", 1), "line 1: the score is 'high'"),
    (lambda s: "\n".join(x for x in s.splitlines() if x.split()[0] != s.split()[0]), "1 of 8 queries have no line"),
    (lambda s: "", "8 of 8 queries have no line"),
    (lambda s: s.encode() + b"\xff", "line 161: not UTF-8"),
    (lambda s: "\x1b[2Jq Q0 d 1 1 t\n" + s, "line 1: query '\\x1b[2Jq'"),
])
def test_a_broken_run_gets_one_line(board: Board, tmp_path: Path, change: Any, words: str) -> None:
    path = a_run(board, tmp_path / "r.trec", 0)
    broken = change(path.read_text())
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    for more in ((), ("--check",), ("--json",)):
        code, out, err = two_towers("submit", path, "--team", "us", "--board", board.folder, *more)
        assert (code, out) == (2, "") and err.count("\n") == 1 and words in err and str(path) in err and err.isprintable() <= 1
        assert "\x1b" not in err
    assert not entries(board)


def test_values_are_ir_measures_own(board: Board, tmp_path: Path) -> None:
    path, qrels = a_run(board, tmp_path / "r.trec", 7), board.folder / "secret" / "qrels.tsv"
    run, judged = read_run(path), read_qrels(qrels)
    names = {"MRR@10": "RR@10", "nDCG@10": "nDCG@10", "Recall@10": "R@10", "Recall@100": "R@100"}
    value = json.loads(two_towers("submit", path, "--team", "us", "--board", board.folder, "--json")[1])
    # Documents of equal score: RR@k alone orders them the other way, so that they are set apart here in trec_eval's order.
    apart = {q: {d: -rank for rank, d in enumerate(sorted(row, key=lambda d: (row[d], d), reverse=True))} for q, row in run.items()}
    theirs = ir_measures.calc_aggregate([ir_measures.parse_measure(n) for n in names.values()], judged, apart)
    for ours, name in names.items():
        assert value["metrics"][ours] == pytest.approx(theirs[ir_measures.parse_measure(name)], abs=1e-9)
    assert set(value["metrics"]) == set(DEFAULT) == set(names)
    score = json.loads(two_towers("score", path, qrels, "--json")[1])
    assert score["metrics"] == value["metrics"]


def test_a_page_runs_nothing(board: Board, tmp_path: Path) -> None:
    for i, name in enumerate(("<script>document.title='mine'</script>", "<img src=x onerror=alert(1)>")):
        two_towers("submit", a_run(board, tmp_path / "<b>.trec", i), "--team", name, "--board", board.folder)
    code, out, err = two_towers("leaderboard", "--board", board.folder, "--html", tmp_path / "page.html", "--json")
    assert code == 0 and not err and json.loads(out)["submissions"] == 2
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page and "&lt;b&gt;.trec" in page
    assert not re.search(r"https?://|@import|url\(", page) and stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o644


# What the guide says


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", PAGES[page], re.M | re.S)
    return [re.sub(r"(?m)^   ", "", block) if block.startswith("   ") else block for block in found]


def test_every_command_and_option_is_there() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    said = [line for page in PAGES.values() for line in re.findall(r"two-towers ([^`\n;#]+)", page)]
    assert len(said) > 15
    for line in said:
        name, *rest = line.split()
        assert name in commands, line
        options = {o for p in commands[name].params for o in p.opts}
        assert {w.partition("=")[0] for w in rest if w.startswith("--")} <= options, line
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{goal}:" in make for page in PAGES.values() for goal in re.findall(r"`make (\w+)`", page))


def test_every_link_leads_somewhere() -> None:
    links = [link for page in PAGES.values() for link in re.findall(r"\]\(([^)]+)\)", page)]
    assert len(links) > 60 and not [link for link in links if not (PLACE / link).exists()]
    assert all(team in PAGES["BRIEF"].replace("\n", " ") for team in TEAMS)


def minutes_of(link: str) -> int | None:
    """What a notebook or an exercise says of itself."""
    path = (PLACE / link).resolve()
    if path.is_relative_to(ROOT / "exercises"):
        return next((e.card["minutes"] for e in catalogue() if e.id == f"{path.parent.name}/{path.stem}"), None)
    head = "\n".join("".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"][:3])
    found = re.search(r"(\d+)\s+minutes|\*\*Minutes\*\*[ |]*(\d+)", head)
    return int(found[1] or found[2]) if found else None


def test_the_timetable_adds_up() -> None:
    together = 0
    for n, part in enumerate(PAGES["GUIDE"].split("\n### Lesson ")[1:], 1):
        rows = re.findall(r"^\| (.+?) \| (\d+) \|", part, re.M)
        for what, minutes in rows:
            link = re.match(r"\[[^]]+\]\(([^)]+\.ipynb)\)$", what)
            if link:
                assert minutes_of(link[1]) == int(minutes), f"{what}: {minutes} in the guide, {minutes_of(link[1])} in the notebook"
        total = sum(int(minutes) for _, minutes in rows)
        assert f"Lesson {n} together: {total} minutes." in part, total
        together += total
    assert together == 40 * 60 and "2400 minutes, forty hours" in PAGES["GUIDE"]
    points = [int(p) for p in re.findall(r"^\| \*\*.*?\*\* \| \*\*(\d+)\*\*", PAGES["RUBRIC"], re.M)]
    assert sum(points) == 100 == sum(int(p) for p in re.findall(r"^\| [^*|]+ \| (\d+) \|", PAGES["RUBRIC"], re.M)) and max(points) == points[0] == 50


def test_what_is_said_can_be_done(tmp_path: Path) -> None:
    """The commands of guide and brief, in their order, on the smallest collection."""
    shim = tmp_path / "bin" / "two-towers"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; from two_towers.cli import main; sys.exit(main())" "$@"\n')
    shim.chmod(0o755)
    place = tmp_path / "room"
    (place / "inbox").mkdir(parents=True)
    env = os.environ | {"PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def sh(script: str) -> str:
        done = subprocess.run(["bash", "-euc", script], cwd=place, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def py(script: str) -> None:
        done = subprocess.run([sys.executable, "-c", script], cwd=place, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    boards, inbox = blocks("GUIDE", "bash")
    sh(boards.replace("pydocs", "sample"))
    sh("cp -r practice/handout handout; cp -r practice leaderboard")
    (learn, judge), (answer, garbage) = blocks("BRIEF", "bash"), blocks("BRIEF", "python")
    assert "Kernel Kittens" in judge and "submit" not in learn
    sh(learn)
    py(answer)
    py(garbage)
    said = sh(judge)
    assert "in order" in said and "submission 1" in said and "Kernel Kittens" in said
    sh("cp ours.trec 'inbox/Kernel Kittens.trec'; cp garbage.trec 'inbox/Perceptron Party.trec'")
    sh(inbox)
    assert "handed in before" in sh(inbox)
    found = leaderboard(Board.open(place / "practice"))
    assert {r.name for r in found.rows} == {"BM25", "chance", "Kernel Kittens", "Perceptron Party"} and found.submissions == 2
    assert (place / "board.html").exists()


def test_the_generator_leaves_the_guide_alone(tmp_path: Path) -> None:
    for name in ("settings.ini", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("exercises", "two_towers/exercise_stubs", "nbs/exercises"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns(".checked.json", "*.backup*", ".ipynb_checkpoints"))
    for exercise in catalogue():
        path = tmp_path / "nbs" / f"{exercise.card['builds on']}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "true"}
    before = {p.name: p.read_bytes() for p in (tmp_path / "exercises" / "workshop").iterdir()}
    for more in ((), ("--check",)):
        done = subprocess.run([sys.executable, ROOT / ".ci" / "make_exercises.py", *more, tmp_path], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "workshop" not in done.stdout, done.stdout + done.stderr
    assert set(before) == {"GUIDE.md", "BRIEF.md", "RUBRIC.md"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "exercises" / "workshop").iterdir()} == before
