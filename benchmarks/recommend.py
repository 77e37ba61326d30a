"""Recommendation of films: notebook 16's rows on MovieLens' small set, or on people made up, with intervals over people.

    python benchmarks/recommend.py --data FOLDER_OR_ZIP --out benchmarks/measured/recommend.json
    python benchmarks/recommend.py --data FOLDER_OR_ZIP --choose      # towers' settings, on validation

Each person's last film is the test, the one before validation. EASE's two numbers are chosen on validation; the towers'
settings were (see --choose) and are the same for all of their rows. Values are means over seeds for each person.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from two_towers import ease as rows
from two_towers.checkpoint import replacing
from two_towers.ease import METRICS, Vectors, judge
from two_towers.films import Ratings, Split, generate, later_share, leave_last
from two_towers.metrics import Scores, compare
from two_towers.movielens import load_ratings
from two_towers.recommend import FilmTowers, NextFilm, in_batch_softmax
from two_towers.train import fit

SETTINGS: dict[str, Any] = {"dim": 64, "forget": 0.3, "epochs": 3, "batch_size": 512, "lr": 2e-2, "temperature": 0.1}
BEST = "towers, corrected"
VARIANTS: dict[str, dict[str, Any]] = {
    "towers, not corrected": {"corrected": False},
    "towers, ids only": {"use": "ids", "forget": 0.0},
    "towers, words only": {"use": "words", "forget": 0.0},
    BEST: {},
}
MAIN = (BEST,)
COLD = ("towers, words only", BEST)
CHOICES: list[dict[str, Any]] = [{}, {"forget": 0.0}, {"dim": 32}, {"dim": 128}, {"temperature": 0.07}, {"temperature": 0.15},
                                 {"lr": 1e-2}, {"epochs": 6}, {"reach": 10}, {"reach": 50}]


def train(data: Ratings, split: Split, seed: int, *, corrected: bool = True, quick: bool = False, **options: Any) -> FilmTowers:
    """Towers that learned from the histories of `split`."""
    o = SETTINGS | options | ({"dim": 8, "epochs": 1} if quick else {})
    made = {name: o[name] for name in ("dim", "use", "reach", "forget") if name in o}
    towers = FilmTowers.for_films(data, split, seed, **made)
    pairs = NextFilm(split.history, len(data.films), reach=len(towers.recency))
    loss = in_batch_softmax(pairs.share if corrected else None, o["temperature"])
    fit(towers, pairs, loss=loss, epochs=o["epochs"], batch_size=o["batch_size"], lr=o["lr"], seed=seed, progress=False)
    return towers


def mean(found: list[Scores]) -> Scores:
    """Each person's mean over seeds."""
    names = found[0].values
    return Scores(found[0].queries, {m: np.mean([s.of(m) for s in found], 0) for m in names})


def cells(scores: Scores) -> dict[str, Any]:
    """Mean, low and high of each metric."""
    return {m: [round(float(x), 5) for x in (scores.mean(m), *scores.ci(m))] for m in scores.values}


def warm(data: Ratings, seeds: int, parts: int, quick: bool, bar: tqdm) -> dict[str, Any]:
    """The table of films seen next, and comparisons with the corrected towers."""
    split, scores, about, table = leave_last(data), {}, {}, {}
    seen, grid = split.seen("test"), rows.ease_grid(data, split)
    plain = rows.best({cell: x for cell, x in grid.items() if cell[1] is None})
    chosen = rows.best(grid)
    made: dict[str, list[Vectors]] = {"popularity": [rows.popularity(data, split)],
                                      f"EASE (lambda {plain[0]})": [rows.ease(data, split, "test", *plain)],
                                      f"EASE, recent films (lambda {chosen[0]}, {chosen[1]})":
                                          [rows.ease(data, split, "test", *chosen)]}
    longest = 0.0
    for name, options in VARIANTS.items():
        for seed in range(seeds if name in MAIN else parts):
            began = time.process_time()
            made.setdefault(name, []).append(train(data, split, seed, quick=quick, **options).vectors(seen))
            longest = max(longest, time.process_time() - began)
            bar.update()
    table["chance (exact)"] = cells(rows.chance(data, split))
    for name, vectors in made.items():
        found = [judge(v, data, split) for v in vectors]
        scores[name], about[name] = mean([j.scores for j in found]), found
        table[name] = cells(scores[name]) | {"coverage": np.mean([j.coverage for j in found], 0).round(4).tolist(),
                                             "fame": round(float(np.mean([j.fame for j in found])), 2),
                                             "seeds": [round(j.scores.mean("Recall@10"), 4) for j in found]}
    compared = {}
    for other in (name for name in made if name != BEST):
        for metric in ("Recall@10", "nDCG@10"):
            c = compare(scores[BEST], scores[other], metric)
            compared[f"{BEST} - {other}, {metric}"] = {k: round(getattr(c, k), 5) for k in ("diff", "lo", "hi", "p")}
    cold_targets = float((rows.seen_by(split.history, len(data.films))[split.test] == 0).mean())
    about_all = {"processor_seconds": round(longest, 1), "unknown_targets": round(cold_targets, 4)}
    return {"rows": table, "compared": compared} | about_all


def cold(data: Ratings, seeds: int, quick: bool, bar: tqdm) -> dict[str, Any]:
    """The table of newcomers: a tenth of the films, another one for each seed."""
    split, found, sizes, asked = leave_last(data), {}, [], []
    for seed in range(seeds):
        new = rows.newcomers(split, seed=seed)
        nothing = rows.popularity(data, new.split)
        made = {"popularity; EASE; ids alone": Vectors(nothing.people[new.people], nothing.films),
                "same words, untrained": rows.same_words(data, new.seen),
                "same words, last 5 films": rows.same_words(data, [s[-5:] for s in new.seen])}
        for name in COLD:
            made[name] = train(data, new.split, seed, quick=quick, **VARIANTS[name]).vectors(new.seen)
            bar.update()
        for name, vectors in made.items():
            scores, by_chance = rows.judge_newcomers(vectors, data, new)
            found.setdefault(name, []).append(scores)
        found.setdefault("chance (exact)", []).append(by_chance)
        sizes.append(len(new.films))
        asked.append(len(by_chance))
    table = {}
    for name in ("chance (exact)", *(n for n in found if n != "chance (exact)")):  # people differ between seeds: pooled
        values: dict[str, dict[str, list[float]]] = {}
        for scores in found[name]:
            for m, v in scores.values.items():
                for person, x in zip(scores.queries, v.tolist(), strict=True):
                    values.setdefault(m, {}).setdefault(person, []).append(x)
        names = list(next(iter(values.values())))
        table[name] = cells(Scores(names, {m: np.array([np.mean(v[n]) for n in names]) for m, v in values.items()}))
    people = f"{min(asked)} people" if min(asked) == max(asked) else f"{min(asked)} to {max(asked)} people"
    about = f"{seeds} draw{'s' * (seeds > 1)} of {sizes[0]:,} new films, the only candidates; {people} saw one"
    return {"about": about, "rows": table}


def choose(data: Ratings) -> None:
    """Validation figures of some settings, one seed."""
    split = leave_last(data)
    for options in CHOICES:
        found = judge(train(data, split, 0, **options).vectors(split.history), data, split, "validation")
        print(f"{options or 'as they are'!s:24} {found}", flush=True)


def main() -> None:
    """Read the options, then choose or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="MovieLens' files, a folder or zip archive; without it people made up")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", type=int, help="seeds of the towers that lack a part; as many as --seeds if not given")
    parser.add_argument("--draws", type=int, help="draws of new films, a seed each; as many as --seeds if not given")
    parser.add_argument("--choose", action="store_true", help="only compare settings of the towers, on validation")
    parser.add_argument("--quick", action="store_true", help="one epoch, 8 dimensions, few people: to see that it runs")
    parser.add_argument("--out", type=Path, help="write the tables here as JSON")
    args = parser.parse_args()
    seeds, parts, draws = (n if n is not None else args.seeds for n in (args.seeds, args.parts, args.draws))
    if min(seeds, parts, draws) < 1:
        parser.error(f"--seeds {seeds}, --parts {parts}, --draws {draws}: must be at least 1")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    data = load_ratings(args.data) if args.data else generate(60, 150) if args.quick else generate()
    print(data)
    if args.choose:
        return choose(data)
    with tqdm(total=seeds * len(MAIN) + parts * (len(VARIANTS) - len(MAIN)) + draws * len(COLD), desc="trainings") as bar:
        result = warm(data, seeds, parts, args.quick, bar) | {"cold": cold(data, draws, args.quick, bar)}
    sizes = f"{len(data.people)} people, {len(data.films):,} films, {len(data):,} ratings"
    about = (f"{data.name}: {sizes}; each person's last film is to be found among all they had not seen; {seeds} seeds "
             f"({parts} for towers that lack a part); {later_share(data):.0%} of other people's ratings come later; "
             f"fingerprint {data.fingerprint}")
    result = {"about": about, "settings": SETTINGS, "bad_lines": len(data.bad)} | result
    print(about)
    for name, row in result["rows"].items():
        print(f"{name:44}" + "  ".join(f"{m} {row[m][0]:.3f} [{row[m][1]:.3f}, {row[m][2]:.3f}]" for m in METRICS))
    for name, c in result["compared"].items():
        print(f"{name}: {c['diff']:+.3f} [{c['lo']:+.3f}, {c['hi']:+.3f}], p = {c['p']:.4f}")
    print("newcomers:", result["cold"]["about"])
    for name, row in result["cold"]["rows"].items():
        print(f"{name:44}" + "  ".join(f"{m} {x[0]:.3f} [{x[1]:.3f}, {x[2]:.3f}]" for m, x in row.items()))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.out) as part:
            part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
