"""What faults are done to: four pieces of work, what each starts from, and what has to hold after a fault (see faults.py)."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from killed import Ended, Work, kill, left_over, quietly, run

TRAIN = ["train", "--data", "sample", "--dim", "8", "--batch", "16", "--epochs", "2", "--negatives", "both"]
TEAM = "Kernel Kittens"
ROWS = 5  # documents a shard


def beir(data: Any, folder: Path) -> None:
    """A collection as a BEIR folder."""
    from two_towers.metrics import write_qrels

    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", data.corpus), ("queries", data.queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in texts.items()))
    for split in data.splits:
        write_qrels(data.qrels[split], folder / "qrels" / f"{split}.tsv")


def ids(folder: Path) -> set[str]:
    """Documents of the index in a model's folder, after a search."""
    from two_towers.engine import SearchEngine

    engine = SearchEngine.open(folder)
    engine.search("bees in winter", 3)
    return set(engine.texts.row)


def names(folder: Path) -> set[str]:
    """The files of a folder, but TensorBoard's, which count attempts."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts}


class Place:
    """A model, one whose training was cut off, a changed collection, shards, a board; and copies of them to do harm to."""

    def __init__(self, folder: Path):
        from two_towers.data import load
        from two_towers.metrics import write_run
        from two_towers.towers import DualEncoder
        from two_towers.workshop import new_board

        self.folder, self.count, data = folder, 0, load("sample")
        self.model, self.cut, self.board, self.changed = (folder / name for name in ("model", "cut", "board", "changed"))
        quietly([*TRAIN, "--out", folder / "here"])  # imports what the others then need not
        ended, self.seconds = self.timed([*TRAIN, "--out", self.model], self.model)
        self.weights, self.names, self.old = (self.model / "model.safetensors").read_bytes(), names(self.model), ids(self.model)
        run([*TRAIN, "--out", self.cut], self.cut, at=len(ended.touched) // 2, blow=kill)
        for left in left_over(self.cut):
            (self.cut / left).unlink()
        self.encoder, self.corpus = DualEncoder.load(self.model), dict(data.corpus)
        self.vectors = self.encoder.encode_texts(self.corpus, side="document")
        judged = {d for of in data.qrels.values() for grades in of.values() for d in grades}
        kept = [d for i, d in enumerate(self.corpus) if i % 5 or d in judged]
        texts = {d: self.corpus[d] if i % 3 else f"{self.corpus[d]} Changed." for i, d in enumerate(kept)}
        data.corpus = texts | {"new": "A document that was not there before."}
        self.new = set(data.corpus)
        beir(data, self.changed)
        board = new_board(self.board, load("sample"))
        write_run({q: {d: 1 / (i + 1) for i, d in enumerate(self.corpus)} for q in board.queries}, self.board / "run.trec")

    def copy(self, what: Path | None) -> Path:
        """A copy of a folder; None: a place where nothing is."""
        self.count += 1
        made = self.folder / "work" / str(self.count)
        made.parent.mkdir(exist_ok=True)
        return made if what is None else Path(shutil.copytree(what, made))

    def timed(self, work: Work, folder: Path) -> tuple[Ended, float]:
        """A piece of work that nothing happens to, and its seconds."""
        start, ended = time.perf_counter(), run(work, folder)
        if ended.code:
            raise ValueError(f"fails undisturbed: exit {ended.code}: {ended.said}")
        return ended, time.perf_counter() - start


def trained(place: Place, folder: Path) -> str:
    """What is not as it would have been once a training is gone on with, or ""."""
    ended = run([*TRAIN, "--out", folder, "--resume"], folder)
    if ended.code:
        return f"--resume: exit {ended.code}: {ended.said[-300:]}"
    if (folder / "model.safetensors").read_bytes() != place.weights:
        return "other weights"
    if names(folder) != place.names or left_over(folder):
        return f"other files: {names(folder) ^ place.names} {left_over(folder)}"
    return "" if ids(folder) == place.old else "another index"


def encoded(place: Place, folder: Path) -> str:
    """What is wrong with shards after a fault: those that were whole are not encoded again, and all vectors are the same."""
    from two_towers.shards import open_shards

    whole = sum(p.with_suffix(".npy").is_file() for p in folder.glob("0*.json"))
    try:
        again = shards(place, folder)()
        found = list(open_shards(folder))
    except (ValueError, OSError) as e:
        return f"again: {e}"
    if again != -(-len(place.corpus) // ROWS) - whole:
        return f"{whole} shards were whole, {again} encoded again"
    if [d for part, _ in found for d in part] != list(place.corpus) or not np.allclose(
            np.concatenate([v for _, v in found]), place.vectors, atol=1e-6):
        return "other vectors"
    return f"left behind: {left_over(folder)}" if left_over(folder) else ""


def updated(place: Place, folder: Path) -> str:
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


def counted(place: Place, folder: Path) -> str:
    """What is wrong with a board after a fault: the entry is there or not, and handing in again leaves it there once."""
    from two_towers.workshop import Board, entries

    board, noted, handler = Board.open(folder), [], logging.Handler()
    handler.emit = lambda record: noted.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("two_towers").addHandler(handler)
    try:
        before, ended, after = len(entries(board)), run(submit(place, folder), folder), len(entries(board))
    finally:
        logging.getLogger("two_towers").removeHandler(handler)
    well = before in (0, 1) and after == 1 and not ended.code and not noted
    return "" if well else f"{before} entries, then {after}; exit {ended.code} {ended.said[-300:]} {noted}"


def train(place: Place, folder: Path) -> Work:
    """A training."""
    return [*TRAIN, "--out", folder]


def shards(place: Place, folder: Path) -> Callable[[], int]:
    """The corpus encoded in shards; gives how many."""
    from two_towers.shards import encode_shards

    return lambda: encode_shards(place.encoder, place.corpus, folder, mark="m", rows=ROWS, progress=False)


def update(place: Place, folder: Path) -> Work:
    """An index brought up to date."""
    return ["train", "--update", "--data", place.changed, "--out", folder]


def submit(place: Place, folder: Path) -> Work:
    """A run handed in."""
    return ["submit", place.board / "run.trec", "--team", TEAM, "--board", folder]


@dataclass
class Job:
    """A piece of work: how it is done in a folder, what it starts from, what must hold afterwards, and how that is said."""

    name: str
    work: Callable[[Place, Path], Work]
    start: Path | None
    check: Callable[[Place, Path], str]
    holds: str


def jobs(place: Place) -> list[Job]:
    """The four."""
    return [
        Job("`train`", train, None, trained, "gone on with, the same weights to the bit"),
        Job("`encode_shards`", shards, None, encoded, "gone on with, no whole shard twice, the same vectors"),
        Job("`train --update`", update, place.model, updated, "the old index or the new one, and the next update ends well"),
        Job("`submit`", submit, place.board, counted, "counted once, or not yet"),
    ]
