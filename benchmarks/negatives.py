"""Which negatives teach best: the questions of DPR's Table 3 asked of average-pooled towers, with mining and filters.

    python benchmarks/negatives.py [--data pydocs] [--folder BEIR_FOLDER] [--rows-file MSMARCO_ROWS] [--seeds 3]
        [--rows NAME ...] [--threads 1] [--values runs/negatives] [--draw] [--out benchmarks/measured/negatives.json]

The learned part alone (no lexical sketch), 128 dimensions, labels from scratch and after pre-training by the inverse cloze
task, which is done once a seed and copied. Every row has the same batches of 256 pairs (but for those that name another
batch), the same epochs and rates; the epoch is chosen on validation. "random 7": each query sees 7 random passages and
nothing else. "in-batch 7": 7 other rows' positives. "+ 1 BM25": in-batch 255, and each row brings one of BM25's 30 best that
are not known to be right, for all 256 to see. "mined 1": by the model of "in-batch 255" of the same seed, the towers begun
anew; "mined 2": by the model of "mined 1". "filtered": without what scores above 0.95 of the positive's score.
Every query's values are kept in --values, a file a model: what is there is not measured again. The JSON is drawn from them:
a query's values are averaged over the seeds, then means, intervals and p are taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pretraining import Shelf
from timing import clock, set_threads, table

METRICS = ("MRR@10", "Recall@20", "Recall@100")
SPLITS = ("validation", "test")
STARTS = ("none", "ict")
BASE = "in-batch 255"
ROWS: dict[str, dict[str, Any]] = {  # name: what `HardPairs` is given; hard: whose negatives; only: for which start
    BASE: {},
    "in-batch + 1 BM25": {"hard": "bm25"},
    "in-batch + 1 BM25, filtered": {"hard": "bm25 filtered"},
    "in-batch + 1 random": {"random": 256},
    "in-batch + 1 mined 1": {"hard": "mined 1"},
    "in-batch + 1 mined 1, filtered": {"hard": "mined 1 filtered"},
    "in-batch + 1 mined 2": {"hard": "mined 2"},
    "in-batch + 1 mined 2, filtered": {"hard": "mined 2 filtered"},
    "random 7": {"others": 0, "random": 7},
    "random 31": {"others": 0, "random": 31},
    "random 127": {"others": 0, "random": 127},
    "in-batch 7": {"others": 7},
    "in-batch 31": {"others": 31},
    "in-batch 127": {"others": 127},
    "in-batch + 1 BM25, the first": {"hard": "bm25 first"},
    "in-batch + 1 BM25, train's passages": {"hard": "bm25 train"},
    "in-batch + 1 mined 1, train's passages": {"hard": "mined 1 train"},
    "in-batch + 1 random, train's passages": {"hard": "random train"},
    "in-batch + 2 BM25": {"hard": "bm25", "k": 2},
    "BM25 7": {"hard": "bm25", "k": 7, "others": 0, "shared": False, "only": "none"},
    "in-batch, batch 8": {"batch": 8, "only": "none"},
    "in-batch, batch 32": {"batch": 32, "only": "none"},
    "in-batch, batch 128": {"batch": 128, "only": "none"},
    "in-batch 255, cloze mixed in": {"mix": True, "only": "ict"},
    "in-batch + 1 BM25, cloze mixed in": {"hard": "bm25", "mix": True, "only": "ict"},
    "in-batch + 1 BM25, train's passages, cloze mixed in": {"hard": "bm25 train", "mix": True, "only": "ict"},
}
FEW = [*list(ROWS)[:8], "in-batch + 1 BM25, train's passages", "in-batch + 1 random, train's passages"]  # of a --folder
MINERS = {"mined 1": BASE, "mined 2": "in-batch + 1 mined 1", "mined 2 filtered": "in-batch + 1 mined 1, filtered"}
HYBRIDS = (BASE, "in-batch + 1 BM25")
LAMBDAS = (1.1, 3, 10, 20, 30, 50, 80, 120)  # 1.1: the paper's, for its scores
FUSED = ("z-scores, 0.4", "reciprocal ranks", "BM25 + 1.1 x similarity", "BM25 + lambda x similarity")
LISTED, SHARE = 30, 0.95
QUICK = {"dim": 16, "pretrain_epochs": 1, "epochs": 1}


class Values(Shelf):
    """The shelf, for these metrics."""

    metrics = METRICS


class Bench:
    """One collection: trains what the shelf lacks."""

    def __init__(self, data: Any, names: list[str], o: argparse.Namespace, tick: Any) -> None:
        from two_towers.recipe import Recipe

        self.data, self.names, self.o, self.tick = data, names, o, tick
        self.shelf = Values(o.values, data.fingerprint)
        self.recipe = replace(Recipe(dim=128, lexical=0), **(QUICK if o.quick else {}))
        self.fixed = {"temperature": self.recipe.temperature, "progress": False, "device": "cpu"}
        self.starts: dict[tuple[str, int], Any] = {}  # state dicts
        self.lists: dict[tuple[str, str, int], Any] = {}
        self.bm25: dict[str, tuple[float, float]] = {}

    def key(self, start: str, row: str, seed: int) -> dict[str, Any]:
        """What tells one model of this collection from another."""
        return {"data": self.data.name, "start": start, "row": row, "seed": seed}

    # ---- models

    def begin(self, start: str, seed: int) -> Any:
        """Towers before any label: untrained, or after the inverse cloze task."""
        from two_towers.pretrain import inverse_cloze
        from two_towers.towers import DualEncoder
        from two_towers.train import fit

        if ("tokenizer", 0) not in self.starts:
            first = DualEncoder.for_corpus(self.data, dim=self.recipe.dim, lexical=0, seed=0, progress=False)
            self.starts["tokenizer", 0] = first.tokenizer
            self.model = first  # its tokens serve every model
        model = DualEncoder.for_corpus(self.data, dim=self.recipe.dim, lexical=0, seed=seed, progress=False,
                                       tokenizer=self.starts["tokenizer", 0])
        model._kept = self.model._kept
        if start == "ict":
            if (start, seed) not in self.starts:
                fit(model, inverse_cloze(self.data.corpus), epochs=self.recipe.pretrain_epochs, lr=self.recipe.pretrain_lr,
                    batch_size=self.recipe.batch, seed=seed, **self.fixed)
                self.starts[start, seed] = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(self.starts[start, seed])
        return model

    def train(self, start: str, row: str, seed: int) -> tuple[Any, dict[str, Any]]:
        """One row's model, and what it took. If others mine by it, their lists are kept too."""
        from two_towers.evaluate import primary
        from two_towers.hard_pairs import HardPairs
        from two_towers.negatives import mined_negatives
        from two_towers.pretrain import inverse_cloze, mixed
        from two_towers.train import fit

        how = {k: v for k, v in ROWS[row].items() if k != "only"}
        batch, mix, source = how.pop("batch", self.recipe.batch), how.pop("mix", False), how.pop("hard", None)
        hard = None if source is None else self.hard(start, source, seed)
        model, begin = self.begin(start, seed), self.tick()
        pairs = HardPairs(model.tokens, self.data.train, hard, **how)
        if mix:
            pairs = mixed(pairs, inverse_cloze(self.data.corpus), self.recipe.mix).pairs(model.tokens)
        valid = self.data.validation.sample(self.recipe.valid_queries)
        history = fit(model, pairs, valid=valid, metric=primary(valid.qrels), epochs=self.recipe.epochs, lr=self.recipe.lr,
                      batch_size=batch, seed=seed, **self.fixed)
        about = {"seconds": round(self.tick() - begin, 1), "kept_epoch": history.best["epoch"],
                 "loss": round(history.rows[-1]["loss"], 4)}
        if hard is not None:
            about |= {"listed": len(hard), "queries_with_none": sum(not hard.found[q] for q in self.data.train.queries)}
        for name in (name for name, miner in MINERS.items() if miner == row):
            mined_negatives(model, self.data.train, LISTED).save(self.file(start, name, seed))
        return model, about

    # ---- hard negatives

    def file(self, start: str, source: str, seed: int) -> Path:
        """Where a list of negatives is kept."""
        self.o.values.mkdir(parents=True, exist_ok=True)
        return self.o.values / f"{self.data.name}.{start}.{source.replace(' ', '-')}.{seed}.hard.json"

    def hard(self, start: str, source: str, seed: int) -> Any:
        """One list of negatives, found, kept, or taken from another."""
        from two_towers.negatives import Hard, bm25_negatives

        if source.startswith("bm25"):
            start, seed = "any", 0
        if source in ("mined 1 filtered", "bm25 filtered"):
            return self.hard(start, source.removesuffix(" filtered"), seed).below(SHARE)
        if source == "random train":
            return self.at_random()
        if source == "bm25 first":
            return self.hard(start, "bm25", seed).top(1)
        if source in ("bm25 train", "mined 1 train"):
            return self.hard(start, source.removesuffix(" train"), seed).among(self.data.train)
        if (start, source, seed) not in self.lists:
            path = self.file(start, source, seed)
            if path.exists() and Hard.load(path).fingerprint != self.data.fingerprint:
                path.unlink()
            if not path.exists() and source == "bm25":
                self.begin("none", 0)
                bm25_negatives(self.data.train, self.model.tokens, LISTED).save(path)
            elif not path.exists():
                self.train(start, MINERS[source], seed)
            self.lists = {key: value for key, value in self.lists.items() if key[0] == "any"}
            self.lists[start, source, seed] = Hard.load(path)
        found = self.lists[start, source, seed]
        return found.below(SHARE) if source.endswith("filtered") else found

    def at_random(self) -> Any:
        """Random passages that are right for other train questions."""
        from two_towers.negatives import Hard, known_positives

        rng, train = np.random.default_rng(0), self.data.train
        seen, known = sorted({d for _, d, _ in train.positives()}), known_positives(train)
        drawn = ((q, (seen[i] for i in rng.integers(len(seen), size=LISTED))) for q in train.queries)
        found = {q: {d: 0.0 for d in row if d not in known[q]} for q, row in drawn}
        return Hard(found, dict.fromkeys(found, 0.0), self.data.fingerprint)

    # ---- measurement

    def judged(self, model: Any) -> dict[str, Any]:
        """Scores over the whole corpus, by exact search."""
        return {name: self.measured(name, self.search(model, name, 100)) for name in SPLITS}

    def measured(self, split: str, run: Any) -> Any:
        """A run's values."""
        from two_towers.metrics import measure

        return measure(run, self.data.split(split).qrels, METRICS)

    def search(self, model: Any, split: str, depth: int) -> Any:
        """The towers' run."""
        from two_towers.index import ExactIndex
        from two_towers.lexical import to_run

        asked, ids = self.data.split(split).queries, list(self.data.corpus)
        index = ExactIndex(model.encode_texts(self.data.corpus, side="document"), ids)
        scores, indices = index.search(model.encode_texts(asked, side="query"), depth)
        return to_run(list(asked), ids, indices, scores)

    def baselines(self) -> None:
        """Chance and BM25, as `evaluate` has them; BM25 reads the towers' tokens."""
        from two_towers.evaluate import evaluate

        keys = {row: self.key("none", row, 0) for row in ("chance", "bm25")}
        if all(map(self.shelf.get, keys.values())):
            return
        model = self.begin("none", 0)
        found = {s: evaluate(model, self.data.split(s), metrics=METRICS, depth=100, progress=False) for s in SPLITS}
        for row, key in keys.items():
            self.keep(key, {s: r.scores[row] for s, r in found.items()}, bm25={s: [r.k1, r.b] for s, r in found.items()})

    def keep(self, key: dict[str, Any], scores: dict[str, Any], **about: Any) -> None:
        """Onto the shelf, and a line for who waits."""
        self.shelf.put(key, about, scores)
        values = " ".join(f"{split} {s.mean('MRR@10'):.4f}" for split, s in scores.items())
        print(f"{key['data']} {key['start']}: {key['row']}, seed {key['seed']}: {values} {about.get('seconds', '')}",
              file=sys.stderr, flush=True)

    def seed(self, seed: int) -> None:
        """Every row of one seed."""
        for start in STARTS:
            for row in self.names:
                if ROWS[row].get("only", start) != start:
                    continue
                fuse = row in HYBRIDS and start == "ict" and not all(
                    self.shelf.get(self.key(start, f"{row}; {name}", seed)) for name in FUSED)
                if self.shelf.get(key := self.key(start, row, seed)) and not fuse:
                    continue
                model, about = self.train(start, row, seed)
                self.keep(key, self.judged(model), **about)
                if fuse:
                    self.fuse(model, row, seed)

    def fuse(self, model: Any, row: str, seed: int) -> None:
        """The hybrids of one model with BM25; lambda is picked on validation and kept for test."""
        from two_towers.hard_pairs import linear
        from two_towers.lexical import BM25, rrf, to_run, weighted

        settings = self.shelf.get(self.key("none", "bm25", 0))[0]["bm25"]["test"]
        bm25 = BM25(model.tokens(self.data.corpus), list(self.data.corpus), model.tokenizer.vocab_size, *settings)
        found: dict[str, dict[str, Any]] = {name: {} for name in FUSED}
        best = 0.0
        for split in SPLITS:  # validation first
            asked = self.data.split(split).queries
            lexical = to_run(list(asked), bm25.doc_ids, *bm25.search(model.tokens(asked), 1000))
            dense = self.search(model, split, 1000)
            if split == "validation":
                qrels = self.data.validation.qrels
                best = max(LAMBDAS, key=lambda x: self.value(linear(lexical, dense, x), qrels))  # noqa: B023
            runs = (weighted(dense, lexical, 0.4, "zscore"), rrf(dense, lexical),
                    linear(lexical, dense, 1.1), linear(lexical, dense, best))
            for name, run in zip(FUSED, runs, strict=True):
                found[name][split] = self.measured(split, run)
        for name, scores in found.items():
            self.keep(self.key("ict", f"{row}; {name}", seed), scores, **({"lambda": best} if "lambda" in name else {}))

    @staticmethod
    def value(run: Any, qrels: Any) -> float:
        """MRR@10."""
        from two_towers.metrics import measure

        return measure(run, qrels, ["MRR@10"]).mean("MRR@10")

    def facts(self) -> dict[str, Any]:
        """How many of the listed negatives look like answers after all, by rank; random passages beside them."""
        train, rng, ids = self.data.train, np.random.default_rng(0), list(self.data.corpus)
        asks: dict[str, list[str]] = {}  # a document's own questions, whatever their split: a look with hindsight
        for qrels in self.data.qrels.values():
            for q, judged in qrels.items():
                for d, grade in judged.items():
                    if grade > 0:
                        asks.setdefault(d, []).append(q)
        some, found = train.sample(2000), {}
        for name, start in (("bm25", "any"), ("mined 1", "ict"), ("random", "any")):
            if name == "random":
                lists = {q: [ids[i] for i in rng.integers(len(ids), size=LISTED)] for q in some.queries}
                lists = {q: [d for d in row if d not in train.qrels[q]] for q, row in lists.items()}
                positive: dict[str, float] = {}
            else:
                if name != "bm25" and not self.file(start, name, 0).exists():
                    continue
                hard = self.hard(start, name, 0)
                lists, positive = {q: list(hard.found[q]) for q in some.queries}, hard.positive
            found[name] = []
            for lo, hi in ((0, 1), (1, 5), (5, 10), (10, LISTED)):
                marks = [self.marks(q, d, asks, hard.found[q][d] > positive[q] if positive else None)
                         for q, row in lists.items() for d in row[lo:hi]]
                if marks:
                    shares = {k: round(float(np.mean([m[k] for m in marks])), 4) for k in marks[0]}
                    found[name].append({"ranks": [lo + 1, hi], "n": len(marks), **shares})
        return found

    def marks(self, q: str, d: str, asks: dict[str, list[str]], above: bool | None) -> dict[str, bool]:
        """What speaks for a document being an answer to q."""
        def alike(a: str, b: str) -> float:
            return len(self.bag(a) & self.bag(b)) / max(1, len(self.bag(a) | self.bag(b)))

        texts, queries = self.data.corpus, self.data.queries
        twin = any(alike(texts[d], texts[p]) >= 0.5 for p, grade in self.data.train.qrels[q].items() if grade > 0)
        same = any(alike(queries[q], queries[other]) >= 0.5 for other in asks.get(d, ()))
        known = {} if above is None else {"above the positive": above}
        return {"near the positive": twin, "answers a near question": same} | known

    def bag(self, text: str) -> set[str]:
        """A text's words, remembered."""
        from two_towers.audit import word_list

        bags = self.__dict__.setdefault("bags", {})
        if text not in bags:
            bags[text] = set(word_list(text))
        return bags[text]


def answers(path: Path) -> dict[str, Any]:
    """In rows of MS MARCO: how often BM25's hits that are not selected hold the answer's words; random passages beside."""
    from two_towers.audit import contains, word_list
    from two_towers.data import load
    from two_towers.negatives import bm25_negatives
    from two_towers.words import Tokenizer

    data, rng = load(path), np.random.default_rng(0)
    tokenizer, ids = Tokenizer.train(data.corpus.values(), progress=False), list(data.corpus)
    hard = bm25_negatives(data.train, lambda texts: tokenizer.encode(list(texts.values())), 10)
    held: dict[str, list[bool]] = {"BM25's first": [], "BM25's 2 to 10": [], "random": []}
    for q, row in hard.found.items():
        wanted = [a for a in data.answers.get(q, ()) if 2 <= len(word_list(a)) <= 10]
        drawn = [d for d in (ids[i] for i in rng.integers(len(ids), size=10)) if d not in data.candidates.get(q, ())]
        if wanted:
            for name, documents in (("BM25's first", list(row)[:1]), ("BM25's 2 to 10", list(row)[1:]), ("random", drawn)):
                held[name] += [any(contains(data.corpus[d], a) for a in wanted) for d in documents]
    return {name: {"n": len(x), "share": round(float(np.mean(x)), 4)} for name, x in held.items()}


# ---- from the shelf to the JSON


class Ledger:
    """The JSON's rows, drawn from a shelf."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def seeds(self, start: str, row: str) -> dict[int, Any]:
        """What is there of one row: seed -> (what made it, values)."""
        found = {seed: self.bench.shelf.get(self.bench.key(start, row, seed)) for seed in range(self.bench.o.seeds)}
        return {seed: f for seed, f in found.items() if f is not None}

    def scores(self, found: dict[int, Any], seeds: Any, split: str) -> Any:
        """Each query's values, averaged over these seeds."""
        from two_towers.metrics import Scores

        names = list(self.bench.data.split(split).qrels)
        return Scores(names, {m: np.mean([found[s][1][split][m] for s in seeds], axis=0) for m in METRICS})

    def against(self, row: str) -> dict[str, str]:
        """Which rows a row is compared with: what is asked -> the other row."""
        if "; " in row:
            model, _, how = row.partition("; ")
            other = {} if how == FUSED[0] else {"z-scores": f"{model}; {FUSED[0]}"}
            return other | ({} if model == BASE else {"base": f"{BASE}; {how}"})
        found = {} if row == BASE else {"base": BASE}
        if "cloze mixed in" in row and "BM25" in row:
            found["base"] = "in-batch 255, cloze mixed in"
        if row.endswith(", filtered"):
            found["unfiltered"] = row.removesuffix(", filtered")
        if row.startswith("in-batch + 1 ") and "random" not in row and "mixed" not in row:
            found["random"] = "in-batch + 1 random"
        if row.endswith("train's passages"):
            found["whole corpus"] = row.removesuffix(", train's passages")
            if "random" not in row:
                found["random"] = "in-batch + 1 random, train's passages"
        if row.startswith("random "):
            found["in-batch"] = row.replace("random", "in-batch")
        if "mined 2" in row:
            found["round 1"] = row.replace("mined 2", "mined 1")
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Every row of which a model is there."""
        rows = [self.entry("none", row) for row in ("chance", "bm25")]
        for start in STARTS:
            names = [*self.bench.names, *(f"{row}; {how}" for row in HYBRIDS for how in FUSED)]
            rows += [self.entry(start, row) for row in names if self.seeds(start, row)]
        return rows

    def entry(self, start: str, row: str) -> dict[str, Any]:
        """One row: values and intervals of both splits, each seed's, and paired differences over the seeds that both have."""
        from two_towers.metrics import compare

        mine, entry = self.seeds(start, row), {"data": self.bench.data.name, "start": start, "row": row}
        entry["seeds"] = len(mine)
        others = {} if row in ("chance", "bm25") else {name: self.seeds(start, o) for name, o in self.against(row).items()}
        for split in SPLITS:
            scores = self.scores(mine, mine, split)
            entry[split] = {"queries": len(scores.queries)}
            for m in METRICS:
                entry[split][m] = {"value": round(scores.mean(m), 4), "ci": [round(x, 4) for x in scores.ci(m)],
                                   "each": [round(float(np.mean(v[split][m])), 4) for _, v in mine.values()]}
            for name, other in others.items():
                if both := sorted(mine.keys() & other.keys()):
                    a, b = self.scores(mine, both, split), self.scores(other, both, split)
                    found = {m: compare(a, b, m) for m in METRICS}
                    entry[split].setdefault("against", {})[name] = {
                        m: {k: round(float(getattr(c, k)), 4) for k in ("diff", "lo", "hi", "p")} for m, c in found.items()}
                    if name == "base" and "; " not in row:
                        entry[split]["by BM25"] = self.buckets(a, b, split)
        about = [a for a, _ in mine.values()]
        for name in ("seconds", "loss", "kept_epoch", "listed", "queries_with_none", "lambda", "bm25"):
            if name in about[0]:
                entry[name] = [a[name] for a in about] if name != "bm25" else about[0][name]
        return entry

    def buckets(self, a: Any, b: Any, split: str) -> list[dict[str, Any]]:
        """The difference in MRR@10 for queries that BM25 answers at once, in its first ten, later or never."""
        from two_towers.metrics import compare

        lexical = self.bench.shelf.get(self.bench.key("none", "bm25", 0))[1][split]
        at, far = lexical["MRR@10"], lexical["Recall@100"]
        found = []
        for name, rows in (("first", at == 1), ("2 to 10", (at > 0) & (at < 1)), ("11 to 100", (at == 0) & (far > 0)),
                           ("not found", (at == 0) & (far == 0))):
            if rows.any():
                names = [a.queries[i] for i in np.flatnonzero(rows)]
                left, right = a.subset(names), b.subset(names)
                c = compare(left, right, "MRR@10")
                means = {"value": left.mean("MRR@10"), "base": right.mean("MRR@10"), "lo": c.lo, "hi": c.hi, "p": c.p}
                found.append({"bm25": name, "queries": len(names)} | {k: round(float(x), 4) for k, x in means.items()})
        return found


def write(out: Path, ledger: Ledger, facts: dict[str, Any], rows: dict[str, Any] | None) -> list[dict[str, Any]]:
    """This collection's rows into the JSON, in one step; other collections' stay."""
    from two_towers.checkpoint import replacing

    value = json.loads(out.read_text(encoding="utf8")) if out.exists() else {"about": {}, "facts": {}, "rows": []}
    b = ledger.bench
    settings = ("dim", "batch", "temperature", "pretrain_epochs", "pretrain_lr", "lr", "epochs")
    value["about"][b.data.name] = {
        "fingerprint": b.data.fingerprint, "corpus_size": len(b.data.corpus),
        "queries": {s: len(b.data.split(s)) for s in b.data.splits}, "recipe": {k: getattr(b.recipe, k) for k in settings},
        "listed": LISTED, "share": SHARE, "threads": b.o.threads, "quick": b.o.quick}
    value["facts"][b.data.name] = facts
    if rows:
        value["facts"]["answers"] = rows
    value["rows"] = [e for e in value["rows"] if e["data"] != b.data.name] + ledger.entries()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        lines = ",\n".join(json.dumps(e) for e in value["rows"])
        temporary.write_text(f'{{"about": {json.dumps(value["about"])},\n"facts": {json.dumps(value["facts"])},\n'
                             f'"rows": [\n{lines}\n]}}\n', encoding="utf8")
    return value["rows"]


def lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    found = []
    for e in rows:
        cells = [e["data"], e["start"], e["row"]]
        for split in SPLITS:
            f, base = e[split]["MRR@10"], e[split].get("against", {}).get("base", {}).get("MRR@10")
            beside = f"; {base['diff']:+.3f}, p {base['p']:.4f}" if base else ""
            cells.append(f"{f['value']:.4f} [{f['ci'][0]:.3f}, {f['ci'][1]:.3f}]{beside}")
        cells.append(f"{e['test']['Recall@100']['value']:.3f}")
        found.append([*cells, str(e["seeds"]), f"{np.mean(e['seconds']):.0f}" if "seconds" in e else ""])
    return found


def main() -> None:
    """Reads the options, measures, writes the JSON, prints it as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["pydocs"])
    parser.add_argument("--folder", help="a collection in BEIR's layout, with all three splits; its rows are fewer")
    parser.add_argument("--rows-file", type=Path, help="rows of MS MARCO, to see how many of BM25's hits hold the answer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw the JSON from what is there")
    parser.add_argument("--quick", action="store_true", help="16 dimensions, one epoch: to see that it runs")
    parser.add_argument("--values", type=Path, default=Path("runs/negatives"), help="where every query's values are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/measured/negatives.json"))
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    tick = clock(set_threads(o.threads))
    from two_towers.data import load

    benches = [Bench(load(name), o.rows, o, tick) for name in o.data]
    if o.folder:
        benches.append(Bench(load(o.folder), [row for row in o.rows if row in FEW], o, tick))
    if not o.draw:
        for bench in benches:
            bench.baselines()
        for seed in range(o.seeds):  # a whole seed first: cut off, there is something of everything
            for bench in benches:
                bench.seed(seed)
    found = answers(o.rows_file) if o.rows_file else None
    for bench in benches:
        rows = write(o.out, Ledger(bench), bench.facts(), found)
    print(table(["data", "start", "row", *(f"{s} MRR@10" for s in SPLITS), "test Recall@100", "seeds", "seconds"], lines(rows)))


if __name__ == "__main__":
    from ladder import guarded

    guarded(main)
