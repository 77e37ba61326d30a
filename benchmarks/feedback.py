"""Pseudo-relevance feedback: what the first search found, added to the query, and asked again; beside BM25's own, RM3.

    python benchmarks/feedback.py --data pydocs|BEIR_FOLDER [--rows-folder FOLDER] [--seeds 3] [--threads 1]
        [--values runs/feedback] [--out benchmarks/measured/feedback.json]

Towers by the default recipe, one for each seed; they stay in --values, so that a run that was cut off goes on. Each is fed with
the 3 best documents of a first search, weight 1.0 (fixed beforehand), and asked once more; a row's figures are means over the
seeds, query by query. "side by side": the vectors of all seeds' towers, one after the other. Hybrids take 0.4 of the towers'
z-scores.

--rows-folder: a folder with v1.1.parquet and v2.1.parquet of MS MARCO rows. Then their queries that stand in no split are asked,
over the corpus and their own passages (equal texts once), with the towers of seed 0 and a small grid of settings: how 3 and 1.0
were chosen. A selected passage counts 2, another of the row 1. It costs no test query.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from timing import clock, set_threads, table

METRICS = ("MRR@10", "nDCG@10", "Recall@100")
KEEP, WEIGHT, DEPTH = 3, 1.0, 1000
GRID = tuple((keep, weight) for keep in (3, 10) for weight in (0.5, 1.0, 2.0))
AGAINST = ("bm25", "towers", "hybrid")
QUICK = {"dim": 16, "lexical": 16, "pretrain_epochs": 1, "epochs": 1}
ROWS = ("v1.1", "v2.1")


class Kept:
    """Towers, or several side by side, that encode the same texts once."""

    def __init__(self, *models: Any) -> None:
        self.models, self.made = models, {}
        self.tokens, self.lexical_tokens = models[0].tokens, models[0].lexical_tokens

    def encode_texts(self, texts: Any, *, side: str) -> np.ndarray:
        """(n, D), or of m models (n, m D), of unit length: the cosine is the mean of theirs. `texts`: id -> text."""
        key = side, tuple(texts)
        if key not in self.made:
            parts = [m.encode_texts(texts, side=side) for m in self.models]
            self.made[key] = parts[0] if len(parts) == 1 else np.concatenate(parts, 1) / np.float32(len(parts) ** 0.5)
        return self.made[key]


def towers(data: Any, seed: int, quick: bool, place: Path) -> Any:
    """The default recipe's towers of that seed, from `place`, made there where there are none."""
    from two_towers.recipe import Recipe, train_model
    from two_towers.towers import DualEncoder

    if not (place / "config.json").is_file():
        recipe = replace(Recipe(**(QUICK if quick else {})), seed=seed)
        train_model(data, recipe, place, resume=True, progress=sys.stderr.isatty())[0].save(place)
    return DualEncoder.load(place)


def rm3(model: Any, split: Any, k1: float, b: float, documents: int = 10, terms: int = 10, original: float = 0.5) -> Any:
    """BM25's run with RM3 (Lavrenko and Croft 2001; Abdul-Jaleel et al. 2004), with the settings and details of Anserini.

    A document's own `terms` commonest words, as shares, weighted by its score and added up; the `terms` heaviest of the sum
    take the share that `original` leaves to them. Words that stand in more than a tenth of all documents feed nothing.
    """
    from two_towers.lexical import BM25, to_run

    tokens, asked, ids = model.lexical_tokens(split.corpus), model.lexical_tokens(split.queries), list(split.corpus)
    size = 1 + max(int(np.max(t.ids, initial=1)) for t in (tokens, asked))
    bm25, common = BM25(tokens, ids, size, k1, b), set(np.flatnonzero(tokens.document_frequency(size) > len(ids) / 10)) | {0, 1}
    first, scores = bm25.search(asked, documents)

    def heaviest(words: Any) -> dict[int, float]:
        some = dict(sorted(words.items(), key=lambda w: (-w[1], w[0]))[:terms])
        return {w: x / sum(some.values()) for w, x in some.items()}

    found, values = [], []
    for i, (row, weights) in enumerate(zip(first, scores, strict=True)):
        fed: Counter[int] = Counter()
        for d, score in zip(row[row >= 0], weights, strict=False):
            for word, share in heaviest(Counter(w for w in tokens.row(d).tolist() if w not in common)).items():
                fed[word] += float(score) * share
        query = Counter({w: original * n / len(asked.row(i)) for w, n in Counter(asked.row(i).tolist()).items()})
        query.update({w: (1 - original) * share for w, share in heaviest(fed).items()})
        total = sum((np.float32(x) * bm25.scores([w]) for w, x in query.items()), np.zeros(len(ids), np.float32))
        best = np.argsort(-total, kind="stable")[:DEPTH]
        found.append(np.where(total[best] > 0, best, -1))
        values.append(total[best])
    return to_run(list(split.queries), ids, np.array(found), np.array(values))


def runs_of(model: Kept, split: Any, name: str, first: Any, bm25: Any) -> dict[str, Any]:
    """The rows of one model: as it is, with BM25, fed, and fed with BM25."""
    from two_towers.evaluate import WEIGHT as share
    from two_towers.feedback import asked_again
    from two_towers.lexical import rrf, weighted

    again = {who: asked_again(model, split, first[who], KEEP, WEIGHT, DEPTH) for who in ("model", "hybrid")}
    hybrid = "hybrid" if name == "towers" else f"{name}, hybrid"
    return {name: first["model"], hybrid: first["hybrid"], f"{name}, fed by their own best": again["model"],
            f"{name}, fed by the hybrid's best": again["hybrid"],
            f"{name}, fed by the hybrid's best, + BM25": weighted(again["hybrid"], bm25, share, "zscore"),
            f"{name}, fed by the hybrid's best, + BM25 by ranks": rrf(again["hybrid"], bm25, depth=DEPTH)}


def milliseconds(model: Kept, split: Any, found: Any, tick: Any, queries: int = 50) -> dict[str, float]:
    """Of one query: the towers' first search (its vector included), and the second."""
    from two_towers.feedback import rocchio
    from two_towers.index import ExactIndex
    from two_towers.metrics import ranked

    documents, ids = model.encode_texts(split.corpus, side="document"), list(split.corpus)
    index, place, spent = ExactIndex(documents, ids), {d: i for i, d in enumerate(ids)}, {"first": 0.0, "again": 0.0}
    some = list(split.queries)[:queries]
    for q in some:
        rows = np.array([[place[d] for d in ranked(found[q])[:KEEP]]])
        begun = tick()
        vector = model.models[0].encode_texts([split.queries[q]], side="query")
        index.search(vector, DEPTH)
        between = tick()
        index.search(rocchio(vector, documents, rows, WEIGHT), DEPTH)
        spent["first"] += between - begun
        spent["again"] += tick() - between
    return {k: round(1000 * v / len(some), 2) for k, v in spent.items()}


def summary(runs: dict[str, list[Any]], split: Any) -> dict[str, Any]:
    """Means over the seeds query by query, their intervals, and differences from BM25, towers and hybrid."""
    from two_towers.metrics import Scores, chance, compare, measure

    scores = {"chance": chance(split.qrels, len(split.corpus), METRICS)}
    for row, each in runs.items():
        found = [measure(run, split.qrels, METRICS) for run in each]
        scores[row] = Scores(found[0].queries, {m: np.mean([s.of(m) for s in found], 0) for m in METRICS})
    rows = {}
    for row, mine in scores.items():
        rows[row] = {m: {"value": round(mine.mean(m), 4), "ci": [round(x, 4) for x in mine.ci(m)]} for m in METRICS}
        rows[row]["seeds"] = len(runs.get(row, [0]))
        rows[row]["against"] = {}
        for other in AGAINST if row != "chance" else ():
            if other == row:
                continue
            rows[row]["against"][other] = {}
            for m in METRICS:
                c, moved = compare(mine, scores[other], m), mine.of(m) - scores[other].of(m)
                rows[row]["against"][other][m] = {**{k: round(float(getattr(c, k)), 4) for k in ("diff", "lo", "hi", "p")},
                                                  "better": int((moved > 0).sum()), "worse": int((moved < 0).sum())}
    return rows


def with_rows(data: Any, folder: Path) -> Any:
    """The split "rows": queries of MS MARCO rows that stand in no split of `data`, over its corpus and these rows' passages."""
    from two_towers.data import Collection
    from two_towers.files import parquet_rows

    def letters(text: str) -> str:
        return re.sub(r"\W+", " ", text.lower()).strip()

    corpus, queries, judged = dict(data.corpus), {}, {}
    places, asked = {letters(t): d for d, t in corpus.items()}, {letters(q) for q in data.queries.values()}
    for name in ROWS:
        for i, row in enumerate(parquet_rows(folder / f"{name}.parquet")):
            if letters(row["query"]) in asked:
                continue
            asked.add(letters(row["query"]))
            q, texts, flags = f"{name}-{i}", row["passages"]["passage_text"], row["passages"]["is_selected"]
            queries[q], judged[q] = row["query"], {}
            for j, (text, flag) in enumerate(zip(texts, flags, strict=True)):
                d = places.setdefault(letters(text), f"{q}-{j}")
                corpus.setdefault(d, text)
                judged[q][d] = max(judged[q].get(d, 0), 2 if flag else 1)
    return Collection(f"{data.name} and rows", corpus, queries, {"rows": judged}).split("rows")


def grid(model: Kept, split: Any) -> dict[str, Any]:
    """The settings tried, on queries that are in no split."""
    from two_towers.evaluate import FIXED, evaluate, primary
    from two_towers.feedback import asked_again
    from two_towers.metrics import compare, measure

    metric = primary(split.qrels)
    report = evaluate(model, split, metrics=[metric], k1=FIXED[0], b=FIXED[1], depth=DEPTH, progress=False)
    rows = {name: report.scores[name].mean(metric) for name in ("chance", "bm25", "model", "hybrid")}
    tried = []
    for keep, weight in GRID:
        mine = measure(asked_again(model, split, report.runs["hybrid"], keep, weight, DEPTH), split.qrels, [metric])
        c = compare(mine, report.scores["model"], metric)
        tried.append({"keep": keep, "weight": weight, "value": round(mine.mean(metric), 4),
                      "against towers": [round(float(x), 4) for x in (c.diff, c.lo, c.hi, c.p)]})
    return {"metric": metric, "queries": len(split), "corpus_size": len(split.corpus),
            "fingerprint": split.collection.fingerprint, "rows": {k: round(v, 4) for k, v in rows.items()}, "tried": tried}


def main() -> None:
    """Measures one collection and puts it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--rows-folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one epoch, few dimensions: to see that it runs")
    parser.add_argument("--values", type=Path, default=Path("runs/feedback"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "feedback.json")
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    set_threads(o.threads)

    from two_towers.checkpoint import replacing
    from two_towers.data import load
    from two_towers.evaluate import evaluate, primary

    data = load(o.data)
    split, runs, fixed, kept = data.test, {}, {}, []
    place = o.values / f"{data.name}-{data.fingerprint}{'-quick' if o.quick else ''}"
    for seed in range(o.seeds):
        kept.append(Kept(towers(data, seed, o.quick, place / f"towers-{seed}")))
        report = evaluate(kept[-1], split, metrics=METRICS, depth=DEPTH, progress=False, **fixed)
        if not fixed:
            fixed, how = {"k1": report.k1, "b": report.b}, report.bm25
            first, lexical, runs = report.runs["hybrid"], report.runs["bm25"], {"bm25": [report.runs["bm25"]]}
            runs["bm25 + RM3"] = [rm3(kept[0], split, report.k1, report.b)]
        for row, run in runs_of(kept[-1], split, "towers", report.runs, lexical).items():
            runs.setdefault(row, []).append(run)
    beside = Kept(*kept)
    report = evaluate(beside, split, metrics=METRICS, depth=DEPTH, progress=False, **fixed)
    runs |= {row: [run] for row, run in runs_of(beside, split, "side by side", report.runs, lexical).items()}
    entry = {"metric": primary(split.qrels), "corpus_size": len(data.corpus), "queries": len(split),
             "fingerprint": data.fingerprint, "candidates": "the whole corpus", "seeds": o.seeds,
             "keep": KEEP, "weight": WEIGHT, "bm25": how,
             "milliseconds": milliseconds(kept[0], split, first, clock(o.threads)), "rows": summary(runs, split)}
    every = json.loads(o.out.read_text(encoding="utf8")) if o.out.is_file() else {}
    if o.rows_folder:
        entry["grid"] = grid(kept[0], with_rows(data, o.rows_folder))
    elif "grid" in every.get(data.name, {}):
        entry["grid"] = every[data.name]["grid"]
    o.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(o.out) as temporary:
        temporary.write_text(json.dumps({**every, data.name: entry}, indent=1, default=float) + "\n", encoding="utf8")
    lines = [[row, *(f"{e[m]['value']:.3f} [{e[m]['ci'][0]:.3f}, {e[m]['ci'][1]:.3f}]" for m in METRICS),
              *(f"{c[entry['metric']]['diff']:+.3f}, p = {c[entry['metric']]['p']:.4f}" if (c := e["against"].get(other)) else ""
                for other in AGAINST)] for row, e in entry["rows"].items()]
    print(f"{data.name}: {entry['queries']:,} queries over {entry['corpus_size']:,} documents; {how}; {entry['milliseconds']} ms")
    print(table(["row", *METRICS, *(f"{entry['metric']} less {other}'s" for other in AGAINST)], lines))
    if "grid" in entry:
        g = entry["grid"]
        print(f"\n{g['queries']:,} queries of rows over {g['corpus_size']:,} documents, {g['metric']}: {g['rows']}")
        print(table(["keep", "weight", g["metric"], "less towers'"], [[str(t["keep"]), f"{t['weight']:g}", f"{t['value']:.3f}",
              f"{t['against towers'][0]:+.3f}, p = {t['against towers'][3]:.4f}"] for t in g["tried"]]))


if __name__ == "__main__":
    from ladder import guarded

    guarded(main)
