"""Re-ranking: what a cross-encoder adds to the hybrid, and what each trap in its training lists costs.

    python benchmarks/rerank.py --data pydocs|FOLDER [--seeds 3] [--model DIR] [--values runs/rerank]

Towers by the default recipe; two more from the halves of the training queries, for the lists; then KNRM and the reader, from
fair lists, from lists that give the answer away, and from towers that know the answers. All re-rank the hybrid's first 100.
Where validation is judged as test is, the share of the re-ranker's z-scores beside the hybrid's is picked there out of SHARES;
else it is FIXED. `--model` keeps the reader of seed 0 as a folder that `CrossEncoder.load` opens. What was made stays in
`--values`, so that a run that was cut off goes on. The figures go to `benchmarks/measured/rerank.json`.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ladder import guarded

from two_towers.checkpoint import replacing
from two_towers.data import Collection, load
from two_towers.evaluate import evaluate, primary
from two_towers.lexical import weighted
from two_towers.lists import Lists, crossfit, first_stage, lists_for, reranked, train_reranker
from two_towers.metrics import Run, chance, compare, measure, ranked
from two_towers.pretrain import inverse_cloze, mixed
from two_towers.recipe import Recipe, pick_share
from two_towers.rerank import Evidence, Eyes
from two_towers.towers import DualEncoder
from two_towers.train import fit

MEASURED = Path(__file__).parent / "measured" / "rerank.json"
SHARES, FIXED = (0.3, 0.5, 0.7, 1.0), 0.5
R = Recipe()


def labelled(start: DualEncoder, data: Collection) -> DualEncoder:
    """The pre-trained towers, trained on the labels of `data` as the recipe does."""
    towers = copy.deepcopy(start)
    valid = data.validation.sample(R.valid_queries)
    pairs = mixed(data.train.pairs(towers.tokens), inverse_cloze(data.corpus), R.mix)
    fit(towers, pairs, valid=valid, metric=primary(valid.qrels), epochs=R.epochs, lr=R.lr)
    return towers


def kept(folder: Path, make: Any) -> DualEncoder:
    """The towers in `folder`, made there if there are none."""
    if not (folder / "config.json").is_file():
        make().save(folder)
    return DualEncoder.load(folder)


def unfair(towers: DualEncoder, split: Any, k1: float, b: float) -> Lists:
    """Lists that give the answer away: the labelled document, found or not, beside the first stage's 24 best wrong ones."""
    found, tokens, asked = first_stage(towers, split, k1=k1, b=b), towers.tokens(split.corpus), towers.tokens(split.queries)
    eyes, place, seen = Eyes(towers, tokens, k1, b), {d: i for i, d in enumerate(split.corpus)}, []
    for i, (q, judged) in enumerate(split.qrels.items()):
        wrong = [d for d in ranked(found[q]) if d not in judged][:24]
        if len(wrong) == 24:
            rows = np.array([place[d] for d in (next(iter(judged)), *wrong)])
            evidence = eyes(torch.from_numpy(asked.row(i).astype(np.int64)), tokens.take(rows))
            seen.append(Evidence(evidence.words.half(), evidence.weight, evidence.texts))
    return Lists(seen, torch.zeros(len(seen), 25))


def joined(parts: list[Lists]) -> Lists:
    """Several sources of lists as one."""
    return Lists([e for part in parts for e in part.seen], torch.cat([part.seldom for part in parts]))


def run_of(ranker: Any, found: Run, split: Any) -> tuple[Run, float]:
    """The re-ranked run, and milliseconds of the processor for each query."""
    began = time.process_time()
    run = reranked(ranker, found, split)
    return run, 1000 * (time.process_time() - began) / len(found)


def main() -> None:
    """Measures one collection and puts it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--seeds", type=int, default=3, help="of the re-ranker; the towers are one pair")
    parser.add_argument("--model", type=Path, help="keep the reader of seed 0 there")
    parser.add_argument("--values", type=Path, default=Path("runs/rerank"))
    o = parser.parse_args()
    torch.set_num_threads(1)
    data, seconds = load(o.data), {}
    place, clock = o.values / data.name, time.process_time
    began = clock()

    def start() -> DualEncoder:
        towers = DualEncoder.for_corpus(data, dim=R.dim, lexical=R.lexical, seed=R.seed)
        fit(towers, inverse_cloze(data.corpus), epochs=R.pretrain_epochs, lr=R.pretrain_lr, name="pretrain")
        return towers

    def whole() -> DualEncoder:
        towers = labelled(kept(place / "start", start), data)
        if not data.judgements_differ:
            towers.config = replace(towers.config, lexical_share=pick_share(towers, data.validation.sample(R.valid_queries)))
        return towers

    towers = kept(place / "towers", whole)
    seconds["towers"], began = clock() - began, clock()
    report = evaluate(towers, data.test)
    k1, b, metric = report.k1, report.b, report.primary
    print(report, flush=True)

    def half(part: Collection) -> DualEncoder:
        made = labelled(kept(place / "start", start), part)
        made.config = replace(made.config, lexical_share=towers.config.lexical_share)
        return made

    numbers = iter((0, 1))
    pairs = crossfit(data, lambda part: kept(place / f"half{next(numbers)}", lambda: half(part)))
    seconds["halves"], began = clock() - began, clock()
    fair = joined([lists_for(model, unseen, k1=k1, b=b) for model, unseen in pairs])
    seconds["lists"], began = clock() - began, clock()
    print(f"{len(fair):,} fair lists of {len(data.train):,} queries, {seconds['lists']:.0f} s", flush=True)
    sources = {"reader": (fair, "reader"), "knrm": (fair, "knrm"),
               "gives the answer away": (joined([unfair(model, unseen, k1, b) for model, unseen in pairs]), "reader"),
               "towers know the answers": (lists_for(towers, data.train, k1=k1, b=b), "reader")}
    found = {s: first_stage(towers, data.split(s), k1=k1, b=b) for s in ("validation", "test")}
    asked = data.validation.sample(R.valid_queries)
    found["validation"] = {q: found["validation"][q] for q in asked.qrels}
    rows = {}
    base = measure(found["test"], data.test.qrels, [metric, "Recall@100"])
    for name, (lists, kind) in sources.items():
        for seed in range(o.seeds if name == "reader" else 1):
            began = clock()
            model, _ = train_reranker(towers, lists, towers.tokens(data.corpus), kind, seed=seed, k1=k1, b=b)
            took = clock() - began
            if o.model and name == "reader" and seed == 0:
                model.save(o.model)
            tried = {}
            ours, _ = run_of(model, found["validation"], asked)
            for share in SHARES:
                fused = weighted(ours, found["validation"], share, "zscore")
                tried[share] = measure(fused, asked.qrels, [primary(asked.qrels)]).mean(primary(asked.qrels))
            share = FIXED if data.judgements_differ else max(SHARES, key=tried.__getitem__)
            run, milliseconds = run_of(model, found["test"], data.test)
            alone = measure(run, data.test.qrels, [metric])
            mine = measure(weighted(run, found["test"], share, "zscore"), data.test.qrels, [metric])
            against, bm25 = compare(mine, base, metric), compare(mine, report.scores["bm25"], metric)
            rows[f"{name} {seed}"] = {
                "kind": kind, "lists": len(lists), "seconds": took, "milliseconds": milliseconds, "share": share,
                "validation": tried, "alone": alone.mean(metric), "alone_ci": alone.ci(metric),
                "value": mine.mean(metric), "ci": mine.ci(metric),
                "against_hybrid": [against.diff, against.lo, against.hi, against.p],
                "against_bm25": [bm25.diff, bm25.lo, bm25.hi, bm25.p],
                "ratio": mine.mean(metric) / report.scores["bm25"].mean(metric)}
            print(name, seed, json.dumps(rows[f"{name} {seed}"], default=float), flush=True)
    perfect = {q: {d: float(data.test.qrels[q].get(d, 0)) for d in row} for q, row in found["test"].items()}
    plain = {"chance": chance(data.test.qrels, len(data.corpus), [metric]), "bm25": report.scores["bm25"],
             "towers": report.scores["model"], "hybrid": report.scores["hybrid"], "hybrid's first 100": base,
             "perfect order of these": measure(perfect, data.test.qrels, [metric])}
    entry = {"metric": metric, "queries": len(data.test), "corpus": len(data.corpus), "fingerprint": data.fingerprint,
             "bm25": report.bm25, "recall": base.mean("Recall@100"), "seconds": seconds, "rows": rows,
             "plain": {n: {"value": s.mean(metric), "ci": s.ci(metric)} for n, s in plain.items()}}
    every = json.loads(MEASURED.read_text(encoding="utf8")) if MEASURED.is_file() else {}
    with replacing(MEASURED) as temporary:
        temporary.write_text(json.dumps({**every, data.name: entry}, indent=1, default=float), encoding="utf8")


if __name__ == "__main__":
    guarded(main)
