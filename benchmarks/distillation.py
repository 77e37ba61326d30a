"""Towers taught by a pretrained encoder, beside BM25, towers from scratch and the teacher itself: on validation and on test.

    python benchmarks/distillation.py --data BEIR_FOLDER [--model minilm] [--seeds 1] [--cuts 2] [--alike 10] [--epochs 8]
        [--hidden 1536] [--batch 128] [--lr 0.001] [--threads 1] [--values runs/distillation]
        [--out benchmarks/measured/distillation.json]

The teacher reads every passage, `--cuts` spans of each and the train queries, once; its vectors are kept in --values/teacher, in
blocks: what is there is not encoded again. Then the towers learn to be like its vectors, first with all weights shared (`--alike`
epochs), then each side by itself (as many), then its margins (`--epochs`), and no label at all. The share of the lexical sketch
is 0, or what finds most of the teacher's lists of the validation queries, or what is best on validation's labels; test chooses
nothing. A training that was cut off goes on.
Hybrids: 0.4 of the model's z-scores (as in every table of the course), reciprocal ranks, and the weight that is best on
validation. Seconds are processor time on one thread; the teacher's are those of 256 texts, multiplied.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from timing import clock, set_threads

METRICS = ("MRR@10", "nDCG@10", "Recall@100")
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK = {"pretrain_epochs": 1, "epochs": 1}


class Sides:
    """A model for each side, where their vectors can be compared."""

    def __init__(self, queries: Any, documents: Any) -> None:
        self.sides, self.tokens = {"query": queries, "document": documents}, queries.lexical_tokens

    def encode_texts(self, texts: Any, *, side: str) -> np.ndarray:
        """The vectors of that side's model."""
        return self.sides[side].encode_texts(texts, side=side)


class Kept:
    """The teacher, with its vectors on disk."""

    def __init__(self, teacher: Any, folder: Path, tokens: Any) -> None:
        self.teacher, self.folder, self.tokens = teacher, folder, tokens

    def encode_texts(self, texts: Any, *, side: str) -> np.ndarray:
        """Its vectors, encoded where they are not there."""
        from two_towers.distil import teacher_vectors

        return teacher_vectors(self.teacher, texts, side, self.folder)


class Spent:
    """The seconds of each epoch, on disk, so that a training that is gone on with knows what was before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def each(self) -> list[float]:
        """Of every epoch."""
        return json.loads(self.path.read_text()) if self.path.exists() else []

    def add(self, seconds: float) -> None:
        """One more epoch."""
        self.path.write_text(json.dumps([*self.each(), round(seconds, 1)]))

    def seconds(self, epochs: int | None = None) -> float:
        """Of the first so many."""
        return sum(self.each()[:epochs])


class Bench:
    """One collection: every row's run on both splits, the values kept on disk."""

    def __init__(self, data: Any, o: argparse.Namespace, tick: Any) -> None:
        from two_towers.towers import DualEncoder

        self.data, self.o, self.tick, self.place = data, o, tick, o.values / f"{data.name}-{data.fingerprint}"
        self.splits = {split.name: split for split in (data.validation, data.test)}
        self.runs: dict[str, dict[str, list[Any]]] = {}  # row -> split -> runs, one a seed
        self.about: dict[str, dict[str, Any]] = {}
        self.words = DualEncoder.for_corpus(data, dim=8, lexical=0, progress=False)
        self.teacher = DualEncoder.for_corpus(data, "pretrained", model=o.model, tokenizer=self.words.tokenizer, progress=False)
        self.kept = Kept(self.teacher, o.values / "teacher", self.words.lexical_tokens)

    def add(self, row: str, model: Any, hybrids: bool = True, **about: Any) -> None:
        """The runs of a model, alone and with BM25."""
        from two_towers.evaluate import FIXED, evaluate
        from two_towers.lexical import rrf, weighted
        from two_towers.metrics import measure

        found = {name: evaluate(model, s, metrics=METRICS, k1=FIXED[0], b=FIXED[1], progress=False).runs
                 for name, s in self.splits.items()}
        self.put("bm25", {name: runs["bm25"] for name, runs in found.items()}, once=True)
        self.put(row, {name: runs["model"] for name, runs in found.items()}, **about)
        if not hybrids:
            return
        self.put(f"{row} + bm25, 0.4", {name: runs["hybrid"] for name, runs in found.items()})
        fuse = lambda name, how: how(found[name]["model"], found[name]["bm25"])
        self.put(f"{row} + bm25, ranks", {name: fuse(name, lambda a, b: rrf(a, b, depth=1000)) for name in found})
        judged = self.data.validation.qrels
        values = {w: measure(fuse("validation", lambda a, b, w=w: weighted(a, b, w, "zscore")), judged).mean("MRR@10")
                  for w in WEIGHTS}
        best = max(values, key=values.__getitem__)
        self.put(f"{row} + bm25, picked", {name: fuse(name, lambda a, b: weighted(a, b, best, "zscore")) for name in found},
                 weight=best)

    def put(self, row: str, runs: dict[str, Any], once: bool = False, **about: Any) -> None:
        """One seed's runs of a row."""
        mine = self.runs.setdefault(row, {name: [] for name in runs})
        if once and mine["test"]:
            return
        for name, run in runs.items():
            mine[name].append(run)
        for key, value in about.items():
            self.about.setdefault(row, {}).setdefault(key, []).append(value)

    def reading(self) -> dict[str, float]:
        """The teacher's seconds for all passages and all spans, from 256 of each."""
        from two_towers.distil import spans

        texts = {"documents": list(self.data.corpus.values()), "spans": spans(self.data.corpus) * self.o.cuts}
        took, draw = {}, np.random.default_rng(0)
        for name, listed in texts.items():
            some = [listed[i] for i in draw.choice(len(listed), min(256, len(listed)), replace=False)]
            begin = self.tick()
            self.teacher.encode_texts(some, side="document")
            took[name] = round((self.tick() - begin) * len(listed) / len(some))
        return took

    def scratch(self, seed: int) -> None:
        """The recipe as it stands: inverse cloze task, then labels."""
        from two_towers.recipe import Recipe, train_model

        recipe, begin = replace(Recipe(seed=seed), **(QUICK if self.o.quick else {})), self.tick()
        model, _ = train_model(self.data, recipe, self.place / f"scratch-{seed}", resume=True, progress=False)
        seconds = round(self.tick() - begin)
        model.config = replace(model.config, lexical_share=0.0)
        self.add("from scratch", model, seconds=seconds)

    def taught(self, seed: int) -> None:
        """Like the teacher's vectors, then its margins; a row after each."""
        from two_towers.distil import Alike, apart, lessons_from
        from two_towers.recipe import SHARES, pick_share
        from two_towers.towers import DualEncoder
        from two_towers.train import fit

        o, data = self.o, self.data
        lessons, held = lessons_from(self.teacher, data, seed=0, cuts=o.cuts, folder=self.kept.folder)
        model = DualEncoder.for_corpus(data, dim=self.teacher.config.dim, hidden=tuple(o.hidden), word_dropout=0.0, seed=seed,
                                       lexical_share=0.0, tokenizer=self.words.tokenizer, progress=False)
        layers = "-".join(map(str, o.hidden))
        place = self.place / f"cuts{o.cuts}-hidden{layers}-alike{o.alike}-batch{o.batch}-lr{o.lr:g}-epochs{o.epochs}-seed{seed}"
        spent, begin = Spent(place / "seconds.json"), self.tick()

        def told(history: Any) -> None:
            nonlocal begin
            spent.add(self.tick() - begin)  # the glance at validation is in it
            begin = self.tick()
            print(place.name, history.rows[-1], f"{spent.seconds():.0f} s", flush=True)

        shared = {"seed": seed, "out": place, "resume": True, "progress": sys.stderr.isatty(), "device": "cpu", "on_epoch": told}
        alike, before = Alike(lessons), 0
        begin = self.tick()
        for row, source, loss, epochs, batch, lr in (
                ("taught, alike", alike, alike.regression, o.alike, 2 * o.batch, 3e-3),
                ("taught, apart", alike, alike.regression, o.alike, 2 * o.batch, 2e-3),
                ("taught, ranking", lessons, lessons.ranking, o.epochs, o.batch, o.lr)):
            if row.endswith("apart"):
                apart(model)
            valid = {"valid": held, "metric": "Recall@10", "patience": epochs} if row.endswith("ranking") else {}
            history = fit(model, source, loss=loss, epochs=epochs, lr=lr, batch_size=batch, name=row[8:], **valid, **shared)
            before += epochs
            done = spent.seconds(before)
            shares = {"": 0.0, ", share by the teacher": pick_share(model, held, "Recall@10"),
                      ", share by labels": pick_share(model, data.validation, "MRR@10")}
            config = model.config
            for rule, share in shares.items():
                model.config = replace(config, lexical_share=share)
                self.add(row + rule, model, seconds=round(done), share=share, shares=list(SHARES),
                         loss=[round(r["loss"], 4) for r in history.rows],
                         agreement=[round(r["Recall@10"], 4) for r in history.rows if "Recall@10" in r])
            model.config = config
            bare = DualEncoder(model.tokenizer, replace(config, lexical=0)).eval()
            bare.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("sketch.")})
            self.add(f"{row}, teacher's documents", Sides(bare, self.kept))
            begin = self.tick()

    def table(self) -> dict[str, Any]:
        """Means over the seeds query by query, their intervals, and tests."""
        from two_towers.metrics import Scores, chance, compare, measure

        found: dict[str, Any] = {}
        for split, judged in self.splits.items():
            rows: dict[str, Any] = {"chance": chance(judged.qrels, len(self.data.corpus), METRICS)}
            for row, runs in self.runs.items():
                each = [measure(run, judged.qrels, METRICS) for run in runs[split]]
                rows[row] = Scores(each[0].queries, {m: np.mean([s.of(m) for s in each], 0) for m in METRICS})
            found[split] = {"queries": len(judged.qrels), "rows": {}}
            for row, scores in rows.items():
                mine = {m: {"value": round(scores.mean(m), 4), "ci": [round(x, 4) for x in scores.ci(m)]} for m in METRICS}
                against = {other: {m: {k: round(float(v), 4) for k, v in vars(compare(scores, rows[other], m)).items()
                                       if k != "metric"} for m in METRICS[:2]}
                           for other in ("bm25", "from scratch", "teacher") if other in rows and other != row and row != "chance"}
                found[split]["rows"][row] = mine | {"against": against}
        return found


def main() -> None:
    """Measure, and write at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="minilm")
    for name, default in {"seeds": 1, "cuts": 2, "alike": 10, "epochs": 8, "batch": 128, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hidden", type=int, nargs="*", default=[1536])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--quick", action="store_true", help="one epoch from scratch: only to see that all of it runs")
    parser.add_argument("--values", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "distillation.json")
    o = parser.parse_args()
    set_threads(o.threads)

    from two_towers.checkpoint import replacing
    from two_towers.data import load

    data = load(o.data)
    bench = Bench(data, o, clock(o.threads))
    reading = bench.reading()
    bench.add("teacher", bench.kept)
    for seed in range(o.seeds):
        bench.taught(seed)
        if seed == 0:
            bench.scratch(seed)
        settings = {k: v for k, v in vars(o).items() if k not in ("data", "values", "out", "quick")}
        found = {"data": data.name, "fingerprint": data.fingerprint, "corpus_size": len(data.corpus), "seeds": seed + 1,
                 "settings": settings, "teacher_seconds": reading, "about": bench.about, "splits": bench.table()}
        o.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(o.out) as temporary:
            temporary.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf8")
        for split, part in found["splits"].items():
            for row, values in part["rows"].items():
                print(f"{split:11}{row:52}" + "  ".join(f"{m} {values[m]['value']:.4f}" for m in METRICS), flush=True)


if __name__ == "__main__":
    main()
