"""What the inverse cloze task is worth: its settings, the number of labels, unseen passages, and too easy negatives.

    python benchmarks/pretraining.py [--data pydocs] [--folder BEIR_FOLDER] [--seeds 3] [--parts labels easy settings]
        [--threads 1] [--values runs/pretraining] [--draw] [--out benchmarks/measured/pretraining.json]

The learned part alone (no lexical sketch); what is not said here is as in `Recipe`. Three parts:
"settings": span, keep and epochs, one at a time, without labels, judged on validation.
"labels": 0, 100, 1,000 and all labelled queries after no pre-training and after the task on the whole corpus, each also
    made without the passages that test judges (not in vocabulary, pre-training or labels); where test has few queries
    also without those of validation, and judged there. The epoch is chosen on validation; an epoch goes over few labels
    several times, until it has 25 batches. Test chooses nothing.
"easy": what the loss of a batch says beside a search of the whole corpus, epoch by epoch, without pre-training.
Every query's values are kept in --values, a file a model: what is there is not measured again. The JSON is drawn from them
alone, at the end or with --draw: a query's values are averaged over the seeds, then means, intervals and p are taken.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from timing import clock, set_threads, table

METRICS = ("MRR@10", "nDCG@10", "Recall@100")
BASE = {"span": (6, 24), "keep": 0.1, "epochs": 8}  # the recipe's
SETTINGS = [BASE, *(BASE | {"span": s} for s in ((2, 6), (12, 48), (32, 96))), *(BASE | {"keep": k} for k in (0.0, 0.5, 1.0)),
            *(BASE | {"epochs": e} for e in (1, 2, 4, 16))]
LABELS = (0, 100, 1000, "all")
FEW = 200  # test queries: with fewer, validation's passages are also left out once, and judged
CURES = ("plain", "cloze mixed in", "random negatives", "BM25 negatives")
QUICK = {"dim": 16, "pretrain_epochs": 1, "epochs": 2}


@dataclass
class Longer:
    """Pairs whose epoch goes over them several times, until it has `least` batches: few labels, as many steps."""

    once: Any
    batch: int
    least: int = 25

    @property
    def times(self) -> int:
        """How often an epoch goes over the pairs."""
        return -(-self.least // max(len(self.once) // self.batch, 1))

    def __len__(self) -> int:
        return self.times * max(len(self.once) // self.batch, 1) * self.batch  # what `fit` counts its steps by

    def epoch(self, batch_size: int, rng: np.random.Generator) -> Iterator[Any]:
        """Batches of the pairs, `times` times over."""
        for _ in range(self.times):
            yield from self.once.epoch(batch_size, rng)


@dataclass
class Shelf:
    """A folder with one file a model: each query's values of each split and metric, and what made it."""

    folder: Path
    fingerprint: str
    metrics = METRICS  # of all models; no field

    def path(self, key: dict[str, Any]) -> Path:
        """Where the model of that key stands."""
        return self.folder / (re.sub(r"[^\w.=]+", "-", ".".join(f"{k}={v}" for k, v in key.items())) + ".npz")

    def get(self, key: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """(what made it, {split: {metric: values}}), or None where it was not measured on these data."""
        if not (path := self.path(key)).is_file():
            return None
        found: dict[str, Any] = {}
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            for name in (n for n in file.files if n != "about"):
                split, metric = name.split(" ")
                found.setdefault(split, {})[metric] = file[name].astype(np.float64)
        return (about, found) if about["fingerprint"] == self.fingerprint else None

    def put(self, key: dict[str, Any], about: dict[str, Any], scores: dict[str, Any]) -> None:
        """Keep one model's values, in one step."""
        from two_towers.checkpoint import replacing

        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"{split} {m}": s.of(m).astype(np.float32) for split, s in scores.items() for m in self.metrics}
        with replacing(self.path(key)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, about=json.dumps({"fingerprint": self.fingerprint, **key, **about}), **arrays)


class Bench:
    """One collection: trains what the shelf lacks, in the order asked for."""

    def __init__(self, data: Any, o: argparse.Namespace, tick: Any) -> None:
        from two_towers.recipe import Recipe

        self.data, self.o, self.tick = data, o, tick
        self.shelf = Shelf(o.values, data.fingerprint)
        self.recipe = replace(Recipe(dim=256, lexical=0), **(QUICK if o.quick else {}))
        self.least = 2 if o.quick else 25
        self.fixed = {"batch_size": self.recipe.batch, "temperature": self.recipe.temperature, "progress": False, "device": "cpu"}
        self.unseen = ["test", *(["validation"] if len(data.test) < FEW else [])]

    def key(self, part: str, row: str, labels: Any, seed: int) -> dict[str, Any]:
        """What tells one model of this collection from another."""
        return {"data": self.data.name, "part": part, "row": row, "labels": labels, "seed": seed}

    def missing(self, key: dict[str, Any]) -> bool:
        """Whether it has to be measured."""
        return self.shelf.get(key) is None

    def sizes(self) -> list[Any]:
        """How many labelled queries: fewer steps where the collection has fewer."""
        return [n for n in LABELS if n == "all" or n < len(self.data.train)] if not self.o.quick else [0, 8, "all"]

    def model(self, data: Any, seed: int) -> Any:
        """Untrained towers with that collection's vocabulary."""
        from two_towers.towers import DualEncoder

        return DualEncoder.for_corpus(data, dim=self.recipe.dim, lexical=0, seed=seed, progress=False)

    def cloze(self, model: Any, corpus: dict[str, str], seed: int, span: Any, keep: float, epochs: int) -> Any:
        """Pre-train; returns the task."""
        from two_towers.pretrain import inverse_cloze
        from two_towers.train import fit

        task = inverse_cloze(corpus, tuple(span), keep)
        if len(task.pairs(model.tokens)):
            fit(model, task, epochs=1 if self.o.quick else epochs, lr=self.recipe.pretrain_lr, seed=seed, **self.fixed)
        return task

    def judged(self, model: Any, *splits: str) -> dict[str, Any]:
        """Scores on these splits, over the whole corpus."""
        from recurrent import judge

        return {split: judge(model, self.data.split(split)) for split in splits}

    def keep(self, key: dict[str, Any], scores: dict[str, Any], **about: Any) -> None:
        """Onto the shelf, and a line for who waits."""
        self.shelf.put(key, about, scores)
        values = " ".join(f"{split} {s.mean(self.metric(split)):.3f}" for split, s in scores.items())
        what = f"{key['part']}: {key['row']}, labels {key['labels']}, seed {key['seed']}"
        print(f"{self.data.name} {what}: {values} {about.get('seconds', '')}", file=sys.stderr, flush=True)

    def metric(self, split: str) -> str:
        """The split's first metric."""
        from two_towers.evaluate import primary

        return primary(self.data.split(split).qrels)

    # ---- the baselines

    def baselines(self) -> None:
        """Chance and BM25, as `evaluate` has them; BM25 reads the towers' tokens."""
        from two_towers.evaluate import evaluate

        keys = {row: self.key("labels", row, 0, 0) for row in ("chance", "bm25")}
        if not any(map(self.missing, keys.values())):
            return
        model = self.model(self.data, 0)
        reports = {split: evaluate(model, self.data.split(split), depth=100, progress=False) for split in ("validation", "test")}
        for row, key in keys.items():
            self.keep(key, {split: r.scores[row] for split, r in reports.items()},
                      how={split: r.bm25 for split, r in reports.items()} if row == "bm25" else "exact")

    # ---- settings of the task

    def settings(self, seed: int) -> None:
        """Span, keep and epochs, without labels, on validation."""
        from two_towers.metrics import Scores

        for s in SETTINGS:
            key = self.key("settings", "span {span[0]}-{span[1]}, keep {keep:g}, epochs {epochs}".format(**s), 0, seed)
            same = self.shelf.get(self.key("labels", "cloze, whole", 0, seed)) if s is BASE else None
            if same and self.missing(key):  # that model, measured before
                scores = Scores(list(self.data.validation.qrels), same[1]["validation"])
                self.keep(key, {"validation": scores}, setting=s, seconds=same[0]["seconds"])
            elif self.missing(key):
                model, start = self.model(self.data, seed), self.tick()
                self.cloze(model, self.data.corpus, seed, **s)
                seconds = self.tick() - start
                self.keep(key, self.judged(model, "validation"), setting=s, seconds=round(seconds, 1))

    # ---- what labels add

    def labels(self, seed: int) -> None:
        """Every making with every number of labels."""
        from ladder import unjudged

        self._labels(self.data, "whole", ("validation", "test"), seed)
        for split in self.unseen:
            self._labels(unjudged(self.data, split), f"unseen {split}", (split,), seed)
        judged = {s: {d for g in self.data.qrels[s].values() for d in g} for s in ("test", "validation")}
        split = min(self.unseen, key=lambda s: len(judged[s]))
        others = [d for d in self.data.corpus if d not in judged["test"] | judged["validation"]]
        if split == "test" or 2 * len(judged[split]) < len(others):  # as many others, to tell "fewer" from "not these"
            size = min(len(judged[split]), len(others) - 1)
            gone = set(np.random.default_rng(seed).choice(others, size, replace=False).tolist())
            less = replace(self.data, corpus={d: t for d, t in self.data.corpus.items() if d not in gone}, qrels={})
            self._labels(less, f"fewer {split}", (split,), seed, ("cloze",), [0])

    def _labels(self, made: Any, corpus: str, splits: tuple[str, ...], seed: int,
                starts: tuple[str, ...] = ("none", "cloze"), sizes: list[Any] | None = None) -> None:
        for start in starts:
            rows = {f"{start}, {corpus}": start == "cloze"}  # row -> are cloze pairs mixed in
            if start == "cloze" and corpus == "whole":
                rows["cloze, whole, not mixed"] = False
            todo = [(n, row, mix) for n in sizes or self.sizes() for row, mix in rows.items() if n != 0 or "not mixed" not in row]
            todo = [(n, row, mix, key) for n, row, mix in todo if self.missing(key := self.key("labels", row, n, seed))]
            if not todo:
                continue
            model, task, begin = self.model(made, seed), None, self.tick()
            if start == "cloze":
                task = self.cloze(model, made.corpus, seed, **BASE)
            first, seconds = {k: v.clone() for k, v in model.state_dict().items()}, self.tick() - begin
            for n, _, mix, key in todo:
                model.load_state_dict(first)
                about = {"passages": len(made.corpus), "pairs": 0, "seconds": round(seconds, 1)}
                if n != 0:
                    begin = self.tick()
                    about |= self.teach(model, made, n, seed, task if mix else None)
                    about["seconds"] = round(seconds + self.tick() - begin, 1)
                self.keep(key, self.judged(model, *splits), **about)

    def teach(self, model: Any, made: Any, n: Any, seed: int, task: Any) -> dict[str, Any]:
        """Train on n labelled queries of `made`, the first n of an order that the seed decides; validation chooses the epoch."""
        from two_towers.pretrain import mixed
        from two_towers.train import fit

        some = made.train if n == "all" else made.train.sample(n, seed)
        valid = (made if "validation" in made.splits else self.data).validation.sample(self.recipe.valid_queries)
        source = some if task is None else mixed(some, task, self.recipe.mix)
        pairs = Longer(source.pairs(model.tokens), self.recipe.batch, self.least)
        history = fit(model, pairs, valid=valid, metric=self.metric("validation"), epochs=self.recipe.epochs, lr=self.recipe.lr,
                      seed=seed, **self.fixed)
        return {"pairs": len(pairs.once), "queries": len(some), "kept_epoch": history.best["epoch"]}

    # ---- why a batch is too easy

    def easy(self, seed: int) -> None:
        """Curves of in-batch training without pre-training, and three cures."""
        from two_towers.train import fit

        sizes = [n for n in self.sizes() if n != 0]
        for n, cure in [*((n, "plain") for n in sizes), *((sizes[-2], cure) for cure in CURES[1:])]:
            key = self.key("easy", cure, n, seed)
            if not self.missing(key):
                continue
            model = self.model(self.data, seed)
            some = self.data.train if n == "all" else self.data.train.sample(n, seed)
            pairs = Longer(self.cured(model, some, cure), self.recipe.batch, self.least)
            curve = [self.look(model, some)]
            history = fit(model, pairs, epochs=2 if self.o.quick else 8, lr=self.recipe.lr, seed=seed,
                          on_epoch=lambda _: curve.append(self.look(model, some)), **self.fixed)  # noqa: B023
            losses = [round(r["loss"], 4) for r in history.rows]
            self.keep(key, self.judged(model, "validation"), curve=curve, losses=losses)

    def cured(self, model: Any, some: Any, cure: str) -> Any:
        """The source of that name."""
        from two_towers.lexical import BM25
        from two_towers.pairs import Pairs, index_pairs
        from two_towers.pretrain import inverse_cloze, mixed

        if cure == "cloze mixed in":
            return mixed(some, inverse_cloze(some.corpus, BASE["span"], BASE["keep"]), self.recipe.mix).pairs(model.tokens)
        if cure == "plain":
            return some.pairs(model.tokens)
        if cure == "random negatives":
            return some.pairs(model.tokens, negatives="random")
        chosen, known, _ = index_pairs(some.queries, some.corpus, some.qrels, {})
        tokens, asked = model.tokens(some.corpus), model.tokens(list(some.queries.values()))
        hits, _ = BM25(tokens, list(some.corpus), model.tokenizer.vocab_size).search(asked, 20)  # (Q, 20)
        right = {(q, d) for q, d in known.tolist()}
        pool = [(q, d) for q, row in enumerate(hits.tolist()) for d in row if d >= 0 and (q, d) not in right]
        return Pairs(model.tokens, some.corpus, some.queries, chosen, known, np.array(pool, np.int64).reshape(-1, 2), "row")

    def look(self, model: Any, some: Any) -> dict[str, list[float]]:
        """`ease` of the training pairs and of validation's, before or between epochs."""
        import torch

        was, found = model.training, {}
        model.eval()
        documents = torch.from_numpy(model.encode_texts(self.data.corpus, side="document"))
        for name, split in (("train", some), ("validation", self.data.validation)):
            found[name] = [round(x, 5) for x in ease(model, split, documents, self.recipe.batch)]
        model.train(was)
        return found


def ease(model: Any, split: Any, documents: Any, batch_size: int, most: int = 2) -> list[float]:
    """Means over at most `most` batches: the loss; is the positive first in the batch, in the corpus; shares ranked above it."""
    import torch

    from two_towers.batch import vectors
    from two_towers.losses import in_batch

    place, names, rows = {d: i for i, d in enumerate(split.corpus)}, list(split.queries), []
    pairs = split.pairs(model.tokens, max_positives_per_query=1)
    with torch.no_grad():
        for batch, _ in zip(pairs.epoch(batch_size, np.random.default_rng(0)), range(most), strict=False):
            query, document, _, known = vectors(model, batch)
            near = query @ document.T  # (B, B)
            own = near.diagonal()[:, None].clone()
            inside = (near > own) & ~known
            inside.fill_diagonal_(False)
            far = query @ documents.T  # (B, n)
            for i, q in enumerate(batch.query_ids):
                far[i, [place[d] for d, grade in split.qrels[names[q]].items() if grade > 0]] = -2  # the query's own positives
            outside = far > own + 1e-6
            loss = in_batch(query, document, 0.05, known).item()
            columns = (~known).sum(1).float() - 1
            rows.append([loss, (~inside.any(1)).float().mean().item(), (~outside.any(1)).float().mean().item(),
                         (inside.sum(1) / columns.clamp(min=1)).mean().item(), outside.float().mean().item()])
    return np.mean(rows, axis=0).tolist()


# ---- from the shelf to the JSON


class Ledger:
    """The JSON's rows, drawn from a shelf."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def seeds(self, part: str, row: str, labels: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What is there of one row, a seed each."""
        found = (self.bench.shelf.get(self.bench.key(part, row, labels, seed)) for seed in range(self.bench.o.seeds))
        return [f for f in found if f is not None]

    def scores(self, found: list[Any], split: str) -> Any:
        """Each query's values, averaged over the seeds."""
        from two_towers.metrics import Scores

        names = list(self.bench.data.split(split).qrels)
        return Scores(names, {m: np.mean([values[split][m] for _, values in found], axis=0) for m in METRICS})

    def entries(self) -> list[dict[str, Any]]:
        """Every row of which a model is there."""
        rows, b = [], self.bench
        base = "span 6-24, keep 0.1, epochs 8"
        for s in SETTINGS:
            row = "span {span[0]}-{span[1]}, keep {keep:g}, epochs {epochs}".format(**s)
            rows += self.entry("settings", row, 0, {"base": base} if row != base else {})
        for row in ("chance", "bm25"):
            rows += self.entry("labels", row, 0, {})
        for row in ("none, whole", "cloze, whole", "cloze, whole, not mixed", *(f"{start}, {kind} {split}" for split in
                    b.unseen for start, kind in (("none", "unseen"), ("cloze", "unseen"), ("cloze", "fewer")))):
            against = {"none": "none, whole"} if row != "none, whole" else {}
            if "unseen" in row or "fewer" in row:
                against["seen"] = row.split(",")[0] + ", whole"
            if row.startswith("cloze, unseen"):
                against["none"] = row.replace("cloze", "none")
            if "not mixed" in row:
                against["mixed"] = "cloze, whole"
            elif "whole" in row:
                against["bm25"] = "bm25"
            for n in b.sizes():
                more = {"all labels": "none, whole"} if (row, n) == ("cloze, whole", 0) else {}
                rows += self.entry("labels", row, n, against | more)
        sizes = [n for n in b.sizes() if n != 0]
        for n, cure in [*((n, "plain") for n in sizes), *((sizes[-2], cure) for cure in CURES[1:])]:
            rows += self.entry("easy", cure, n, {"plain": "plain"} if cure != "plain" else {})
        return rows

    def entry(self, part: str, row: str, labels: Any, against: dict[str, str]) -> list[dict[str, Any]]:
        """One row's entries, one a split."""
        mine = self.seeds(part, row, labels)
        place = {"bm25": 0, "all labels": "all"}  # where the other row has another number of labels
        others = {name: self.seeds(part, other, place.get(name, labels)) for name, other in against.items()}
        return [self.draw(part, row, labels, split, mine, others) for split in (mine[0][1] if mine else ())]

    def draw(self, part: str, row: str, labels: Any, split: str, mine: list[Any], others: dict[str, Any]) -> dict[str, Any]:
        """One row on one split: values and intervals, each seed's, and paired differences over the seeds that both have."""
        from two_towers.metrics import compare

        first = self.bench.metric(split)
        shown = (first, "Recall@100")
        scores, about = self.scores(mine, split), mine[0][0]
        entry = {"data": self.bench.data.name, "part": part, "row": row, "labels": labels, "split": split, "seeds": len(mine),
                 "queries": len(scores.queries), "metric": first,
                 "values": {m: [round(x, 4) for x in (scores.mean(m), *scores.ci(m))] for m in shown},
                 "each": [round(float(np.mean(values[split][first])), 4) for _, values in mine]}
        for name, other in others.items():
            n = len(mine) if name == "bm25" else min(len(mine), len(other))  # BM25 has no seeds
            if other and n:
                a, b = self.scores(mine[:n], split), self.scores(other[:n], split)
                found = {m: compare(a, b, m) for m in shown}
                entry.setdefault("against", {})[name] = {m: [round(float(x), 4) for x in (c.diff, c.lo, c.hi, c.p)]
                                                         for m, c in found.items()}
        for name in ("seconds", "passages", "setting", "how"):
            if name in about:
                entry[name] = about[name] if name != "seconds" else round(float(np.mean([a["seconds"] for a, _ in mine])), 1)
        if "kept_epoch" in about:
            entry["kept_epochs"] = [a["kept_epoch"] for a, _ in mine]
        if part == "easy":
            entry["losses"] = np.mean([a["losses"] for a, _ in mine], axis=0).round(4).tolist()
            entry["curve"] = {name: np.mean([[e[name] for e in a["curve"]] for a, _ in mine], axis=0).round(3).tolist()
                              for name in ("train", "validation")}
        return entry


def write(out: Path, data: Any, ledger: Ledger) -> list[dict[str, Any]]:
    """This collection's rows into the JSON, in one step; other collections' stay."""
    from two_towers.checkpoint import replacing

    value = json.loads(out.read_text(encoding="utf8")) if out.exists() else {"about": {}, "rows": []}
    r = ledger.bench.recipe
    value["about"][data.name] = {
        "fingerprint": data.fingerprint, "corpus_size": len(data.corpus), "queries": {s: len(data.split(s)) for s in data.splits},
        "recipe": {k: getattr(r, k) for k in ("dim", "batch", "temperature", "pretrain_lr", "lr", "epochs", "mix")},
        "threads": ledger.bench.o.threads, "quick": ledger.bench.o.quick}
    value["rows"] = [e for e in value["rows"] if e["data"] != data.name] + ledger.entries()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        lines = ",\n".join(json.dumps(e, separators=(",", ":")) for e in value["rows"])
        temporary.write_text(f'{{"about": {json.dumps(value["about"])},\n"rows": [\n{lines}\n]}}\n', encoding="utf8")
    return value["rows"]


def lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    found = []
    for e in rows:
        value, lo, hi = e["values"][e["metric"]]
        against = {name: d[e["metric"]] for name, d in e.get("against", {}).items()}
        beside = "; ".join(f"{name} {diff:+.3f} (p {p:.4f})" for name, (diff, _, _, p) in against.items())
        found.append([f"{e['data']}, {e['split']}", e["part"], e["row"], str(e["labels"]),
                      f"{e['metric']} {value:.3f} [{lo:.3f}, {hi:.3f}]", beside, str(e["seeds"]), str(e.get("seconds", ""))])
    return found


def main() -> None:
    """Reads the options, measures, writes the JSON, prints it as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["pydocs"])
    parser.add_argument("--folder", help="a collection in BEIR's layout, with all three splits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["labels", "easy", "settings"], choices=["labels", "easy", "settings"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw the JSON from what is there")
    parser.add_argument("--quick", action="store_true", help="16 dimensions, next to no training: to see that it runs")
    parser.add_argument("--values", type=Path, default=Path("runs/pretraining"), help="where every query's values are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/pretraining.json"))
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    tick = clock(set_threads(o.threads))
    from two_towers.data import load

    benches = [Bench(load(name), o, tick) for name in [*o.data, *([o.folder] if o.folder else [])]]
    if not o.draw:
        for bench in benches:
            bench.baselines()
        for seed in range(o.seeds):  # a whole seed first: cut off, there is something of everything
            for part in o.parts:
                for bench in benches:
                    getattr(bench, part)(seed)
    for bench in benches:
        rows = write(o.out, bench.data, Ledger(bench))
    heads = ["data", "part", "row", "labels", "mean and interval", "against", "seeds", "seconds"]
    print(table(heads, lines(rows)))


if __name__ == "__main__":
    from ladder import guarded

    guarded(main)
