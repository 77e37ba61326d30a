"""A few kills, full disks, second writers and malformed inputs; and every damage that was once found is refused in one line."""

from __future__ import annotations

import importlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
DEEP = b"[" * 100_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A model, shards and a board to do harm to, all of them from the benchmark's own functions."""
    threads, before = torch.get_num_threads(), set(sys.modules)
    torch.set_num_threads(1)  # threads do not survive a fork
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("undisturbed").Place(tmp_path_factory.mktemp("faults"))
    torch.set_num_threads(threads)
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in set(sys.modules) - before & {p.stem for p in (ROOT / "benchmarks").glob("*.py")}:
        sys.modules.pop(name, None)


def test_nothing_is_lost(place: Any) -> None:
    faults, draw = importlib.import_module("faults"), random.Random(1)
    jobs = {job.name.strip("`"): job for job in importlib.import_module("undisturbed").jobs(place)}
    assert list(jobs) == ["train", "encode_shards", "train --update", "submit"]
    for name, job in jobs.items():
        rows = [faults.kills(place, job, 1, draw), faults.disk(place, job, 2)]
        if name == "train --update":
            rows.append(faults.two(place, job, 2, draw))
            assert rows[-1]["told"] == rows[-1]["refused"] == 2
        assert [row["examples"] for row in rows] == [[]] * len(rows)
        assert rows[0]["landed"] == 1 and rows[1]["refused"]


def test_malformed_input_is_read_or_refused(place: Any) -> None:
    malformed = importlib.import_module("malformed")
    tallies = {kind.name: malformed.try_all(kind, 3, 7, place.folder / "three" / str(n))
               for n, kind in enumerate(malformed.kinds(place)) if "checkpoints" not in kind.name and "vectors" not in kind.name}
    assert len(tallies) == 14 and {name: t.lost for name, t in tallies.items() if t.lost} == {}
    assert sum(t.refused for t in tallies.values()) > 10 and sum(t.read for t in tallies.values()) > 5


def test_a_loss_is_seen(place: Any) -> None:
    faults, malformed, undisturbed = (importlib.import_module(name) for name in ("faults", "malformed", "undisturbed"))

    def clumsy(error: type[Exception], leaves: str) -> Callable[[Path], Callable[[], object]]:
        def work(folder: Path) -> None:
            (folder / leaves).write_text("half")
            raise error("no such thing")
        return lambda folder: lambda: work(folder)

    for error, leaves, why in ((KeyError, "a", "KeyError"), (ValueError, "a.tmp", "left behind"), (ValueError, "out", "out is there")):
        kind = malformed.Kind("clumsy", 1, place.board, clumsy(error, leaves), writes="out")
        outcome, what = malformed.one(kind, 0, 0, place.folder / "clumsy")
        assert outcome == "lost" and why in what
    assert malformed.one(malformed.Kind("good", 1, place.board, clumsy(ValueError, "a")), 0, 0, place.folder / "good")[0] == "refused"
    job = undisturbed.jobs(place)[3]
    job.check = lambda place, folder: "gone"
    row = faults.kills(place, job, 1, random.Random(0))
    assert row["lost"] == row["times"] and "gone" in row["examples"][0]


def npy(shape: str, kind: str = "<f4") -> bytes:
    """A .npy file of 64 zeros that says it is of that shape and type."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(256)


HARM: dict[str, dict[str, bytes | dict[str, Any]]] = {  # file of a sealed model -> what it held when a traceback was seen
    "deep": {"config.json": DEEP, "tokenizer.json": DEEP, "index/about.json": DEEP, "index/ids.json": DEEP},
    "shape": {"index/vectors.npy": npy("('a',)"), "index/documents.npy": npy("('a',)"), "index/words/ids.npy": npy("('a',)")},
    "open": {f"index/{name}.npy": npy("(64") for name in ("vectors", "documents", "words/ids", "words/offsets")},
    "empty": {"index/vectors.npy": b"", "index/documents.npy": b"", "index/words/offsets.npy": b"", "index/words/ids.npy": b""},
    "type": {"index/words/ids.npy": npy("(64,)"), "index/documents.npy": npy("(64,)"), "index/words/offsets.npy": npy("(8, 8)", "<i4")},
}


@pytest.mark.parametrize("name", [f"{how} {file}" for how, files in HARM.items() for file in files])
def test_what_was_found_in_models_is_refused(name: str, place: Any) -> None:
    killed, spoil = importlib.import_module("killed"), importlib.import_module("spoil")
    how, file = name.split(" ")
    folder = place.copy(place.model)
    (folder / file).write_bytes(HARM[how][file])
    spoil.sealed(folder)
    code, said = killed.quietly(["search", folder, "bees in winter"])
    assert killed.refused(code, said) == "" and len(said) < 1000
    shutil.rmtree(folder)


@pytest.mark.parametrize("change", [{"ids": {"a": 1}}, {"ids": [1, 2]}, {"bm25": []}, {"bm25": {"k1": "x", "b": 1}}, {"files": {"a": 1}}])
def test_what_was_found_in_an_index_is_refused(change: dict[str, Any], place: Any) -> None:
    killed, spoil = importlib.import_module("killed"), importlib.import_module("spoil")
    folder = place.copy(place.model)
    file = folder / "index" / ("ids.json" if "ids" in change else "about.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    if "files" not in change:
        spoil.sealed(folder)
    code, said = killed.quietly(["search", folder, "bees in winter"])
    assert killed.refused(code, said) == ""
    shutil.rmtree(folder)


def test_what_was_found_elsewhere_is_refused(place: Any) -> None:
    from two_towers.checkpoint import load_tensors, save_tensors
    from two_towers.words import Tokens

    killed, train = importlib.import_module("killed"), importlib.import_module("undisturbed").TRAIN
    work = place.copy(place.cut)
    checkpoint = next(work.glob("*.checkpoint.safetensors"))
    whole, (tensors, about) = checkpoint.read_bytes(), load_tensors(checkpoint)
    for change in ({"rows": 3}, {"epoch": "x"}, {"messages": None}, {"best": 1}, {"stale": []}, {"numbers": []}):
        save_tensors(checkpoint, tensors, about | change)
        code, said = killed.quietly([*train, "--out", work, "--resume"])
        assert killed.refused(code, said) == "", change
    checkpoint.write_bytes(whole)
    (work / "training.json").write_bytes(DEEP)
    for argv in ([*train, "--out", work, "--resume"], ["train", "--update", "--data", "sample", "--out", work / "nowhere"]):
        code, said = killed.quietly(argv)
        assert killed.refused(code, said) == "" and (".lock" not in said), said
    board = place.copy(place.board)
    (board / "board.json").write_bytes(DEEP)
    rows = place.copy(None)
    rows.mkdir()
    (rows / "train.jsonl").write_bytes(DEEP + b"\n")
    for argv in (["leaderboard", "--board", board], ["data", rows]):
        code, said = killed.quietly(argv)
        assert killed.refused(code, said) == "", said
    tokens = place.copy(place.model / "index" / "words")
    np.save(tokens / "offsets.npy", np.array([0, 9, 3, len(np.load(tokens / "ids.npy"))]))
    with pytest.raises(ValueError, match="do not fit their offsets"):
        Tokens.load(tokens)
    leftover = place.copy(place.model)
    shutil.copytree(leftover / "index", leftover / "index.7.new.tmp")
    assert killed.quietly(["train", "--update", "--data", "sample", "--out", leftover])[0] == 0
    assert killed.left_over(leftover) == []


def test_the_readme_holds_the_table(place: Any) -> None:
    faults = importlib.import_module("faults")
    found, text = json.loads(faults.OUT.read_text()), (ROOT / "README.md").read_text(encoding="utf8")
    assert f"{faults.BEGIN}\n\n{faults.table(found)}\n\n{faults.END}" in text, "run python benchmarks/faults.py --readme"
    kills = [row for row in found["rows"] if row["fault"] == "kill -9"]
    inputs = [row for row in found["rows"] if row["fault"] == "malformed"]
    assert sum(row["landed"] for row in kills) >= 50 and sum(row["times"] for row in inputs) >= 100
    assert found["lost"] == sum(row["lost"] for row in found["rows"])
