"""Re-ranking: what a cross-encoder adds to the hybrid, and what each trap in its training lists costs.

    python benchmarks/rerank.py --data pydocs|FOLDER [--seeds 3] [--traps] [--model DIR] [--values runs/rerank]

Towers by the default recipe; two more from the halves of the training queries, for the lists; then KNRM and the reader, from
fair lists and, with `--traps`, from lists that give the answer away and from towers that know the answers. All re-rank the
hybrid's first 100: `alone` is their own order of these; `blended` adds the hybrid's z-scores, with the share that is best on
validation out of SHARES, or FIXED where validation is judged in another way than test. `--model` keeps the reader of seed 0
as a folder that `CrossEncoder.load` opens. What was made stays in `--values`, so that a run that was cut off goes on. The
figures go to `--out`, benchmarks/measured/rerank.json.
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
from tqdm import tqdm

from two_towers.checkpoint import replacing
from two_towers.data import Collection, load
from two_towers.evaluate import evaluate, primary
from two_towers.lexical import weighted
from two_towers.lists import Lists, crossfit, first_stage, lists_for, reranked, train_reranker
from two_towers.metrics import Run, Scores, chance, compare, measure, ranked
from two_towers.pretrain import inverse_cloze, mixed
from two_towers.recipe import Recipe, pick_share
from two_towers.rerank import CrossEncoder, Evidence, Eyes
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


def evidence(eyes: Eyes, found: Run, split: Any) -> dict[str, Evidence]:
    """What is to be seen in the documents of each query: the same for every re-ranker with these eyes."""
    tokens, place = eyes.towers.tokens(split.corpus), {d: i for i, d in enumerate(split.corpus)}
    seen = {}
    for q, row in tqdm(found.items(), desc="reading"):
        asked = eyes.towers.tokens([split.queries[q]]).row(0).astype(np.int64)
        e = eyes(torch.from_numpy(asked), tokens.take(np.array([place[d] for d in row])))
        seen[q] = e._replace(words=e.words.half())
    return seen


@torch.no_grad()
def run_of(model: CrossEncoder, found: Run, seen: dict[str, Evidence]) -> Run:
    """The re-ranked run."""
    return {q: dict(zip(row, model.eval()(seen[q]).tolist(), strict=True)) for q, row in found.items()}


def latency(model: CrossEncoder, found: Run, split: Any, queries: int = 50) -> float:
    """Milliseconds of the processor for each query, from texts to scores, as `score` is used in a search."""
    some = dict(list(found.items())[:queries])
    began = time.process_time()
    reranked(model, some, split, progress=False)
    return 1000 * (time.process_time() - began) / len(some)


def row(scores: Scores, hybrid: Scores, bm25: Scores, metric: str) -> dict[str, Any]:
    """A system's mean and interval, and its difference from the hybrid and from BM25, query by query."""
    against = {name: compare(scores, other, metric) for name, other in (("hybrid", hybrid), ("bm25", bm25))}
    found = {f"against_{name}": [c.diff, c.lo, c.hi, c.p] for name, c in against.items()}
    return {"value": scores.mean(metric), "ci": scores.ci(metric), "ratio": scores.mean(metric) / bm25.mean(metric), **found}


def main() -> None:
    """Measures one collection and puts it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--seeds", type=int, default=3, help="of the re-ranker; the towers are one pair")
    parser.add_argument("--traps", action="store_true", help="also learn from the two kinds of spoiled lists")
    parser.add_argument("--model", type=Path, help="keep the reader of seed 0 there")
    parser.add_argument("--values", type=Path, default=Path("runs/rerank"))
    parser.add_argument("--out", type=Path, default=MEASURED)
    o = parser.parse_args()
    torch.set_num_threads(1)
    data = load(o.data)
    place, clock = o.values / data.name, time.process_time

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
    report = evaluate(towers, data.test)
    k1, b, metric = report.k1, report.b, report.primary
    print(report, flush=True)

    def half(part: Collection) -> DualEncoder:
        made = labelled(kept(place / "start", start), part)
        made.config = replace(made.config, lexical_share=towers.config.lexical_share)
        return made

    numbers = iter((0, 1))
    pairs = crossfit(data, lambda part: kept(place / f"half{next(numbers)}", lambda: half(part)))
    began = clock()
    fair = joined([lists_for(model, unseen, k1=k1, b=b) for model, unseen in pairs])
    seconds = {"lists": clock() - began}  # the towers may have been there before: the ladder times them
    print(f"{len(fair):,} fair lists of {len(data.train):,} queries, {seconds['lists']:.0f} s", flush=True)
    sources = {"reader": (fair, "reader"), "knrm": (fair, "knrm")}
    if o.traps:
        away = joined([unfair(model, unseen, k1, b) for model, unseen in pairs])
        by_heart = lists_for(towers, data.train, k1=k1, b=b)
        sources |= {"gives the answer away": (away, "reader"), "towers know the answers": (by_heart, "reader")}
    found = {s: first_stage(towers, data.split(s), k1=k1, b=b) for s in ("validation", "test")}
    asked = data.validation.sample(R.valid_queries)
    found["validation"] = {q: found["validation"][q] for q in asked.qrels}
    eyes, rows = Eyes(towers, towers.tokens(data.corpus), k1, b), {}
    seen = {"validation": evidence(eyes, found["validation"], asked), "test": evidence(eyes, found["test"], data.test)}
    base = measure(found["test"], data.test.qrels, [metric, "Recall@100"])
    for name, (lists, kind) in sources.items():
        for seed in range(o.seeds if name == "reader" else 1):
            began = clock()
            model, _ = train_reranker(towers, lists, towers.tokens(data.corpus), kind, seed=seed, k1=k1, b=b)
            took = clock() - began
            if o.model and name == "reader" and seed == 0:
                model.save(o.model)
            tried = {}
            ours = run_of(model, found["validation"], seen["validation"])
            for share in SHARES:
                fused = weighted(ours, found["validation"], share, "zscore")
                tried[share] = measure(fused, asked.qrels, [primary(asked.qrels)]).mean(primary(asked.qrels))
            share = FIXED if data.judgements_differ else max(SHARES, key=tried.__getitem__)
            run = run_of(model, found["test"], seen["test"])
            alone = measure(run, data.test.qrels, [metric])
            mine = measure(weighted(run, found["test"], share, "zscore"), data.test.qrels, [metric])
            rows[f"{name} {seed}"] = {
                "kind": kind, "lists": len(lists), "seconds": took, "share": share, "validation": tried,
                "milliseconds": latency(model, found["test"], data.test),
                **{how: row(x, base, report.scores["bm25"], metric) for how, x in (("alone", alone), ("blended", mine))}}
            print(name, seed, json.dumps(rows[f"{name} {seed}"], default=float), flush=True)
    perfect = {q: {d: float(data.test.qrels[q].get(d, 0)) for d in row} for q, row in found["test"].items()}
    plain = {"chance": chance(data.test.qrels, len(data.corpus), [metric]), "bm25": report.scores["bm25"],
             "towers": report.scores["model"], "hybrid": report.scores["hybrid"], "hybrid's first 100": base,
             "perfect order of these": measure(perfect, data.test.qrels, [metric])}
    entry = {"metric": metric, "queries": len(data.test), "corpus": len(data.corpus), "fingerprint": data.fingerprint,
             "bm25": report.bm25, "recall": base.mean("Recall@100"), "seconds": seconds, "rows": rows,
             "plain": {n: {"value": s.mean(metric), "ci": s.ci(metric)} for n, s in plain.items()}}
    every = json.loads(o.out.read_text(encoding="utf8")) if o.out.is_file() else {}
    o.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(o.out) as temporary:
        temporary.write_text(json.dumps({**every, data.name: entry}, indent=1, default=float), encoding="utf8")


if __name__ == "__main__":
    guarded(main)
