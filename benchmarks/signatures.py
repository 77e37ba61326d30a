"""Signature verification on SVC2004 users 1-20, or on invented signers: notebook 05's table, with intervals.

    python benchmarks/signatures.py --data FOLDER_OR_ARCHIVE --out benchmarks/measured/signatures.json
    python benchmarks/signatures.py --data FOLDER_OR_ARCHIVE --choose      # validation inside the 14, per rotation

Five rotations: 14 signers train, the 6 others are tested; five references; one threshold for all is the headline.
"""
from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from two_towers.checkpoint import replacing
from two_towers.pens import Signatures, generate, load_svc2004
from two_towers.signatures import (
    SignaturePairs,
    SignatureTowers,
    enrol,
    features,
    fuse,
    hard_triplet,
    pack,
    squared_error,
    time_warping,
    trials,
    unpack,
    verify,
)
from two_towers.train import fit
from two_towers.verification import Summary, Trials, judge, judge_rotations

STEPS = 50  # of 64 pairs: an epoch
RECIPES = {  # loss, epochs, what the batches hold
    "1994: squared error": (squared_error, 6, {"skilled": 0.8}),
    "1994, trained without forgeries": (squared_error, 6, {"skilled": 0.0}),
    "triplet": (hard_triplet, 10, {}),
    "triplet, distorted": (hard_triplet, 10, {"distorted": True}),
    "triplet, distorted, invented forgers": (hard_triplet, 10, {"distorted": True, "invented": 0.5}),
}
BEST = "triplet, distorted, invented forgers"


def rotations(signers: list[int], test: int = 6, n: int = 5) -> list[tuple[list[int], list[int]]]:
    "(signers to learn from, signers to test) n times: the tested move on by n - 1, everybody is tested once or twice."
    out = []
    for r in range(n):
        tested = [signers[((n - 1) * r + i) % len(signers)] for i in range(test)]
        out.append(([u for u in signers if u not in tested], tested))
    return out


def score(vectors: np.ndarray, data: Signatures, tried: Trials) -> np.ndarray:
    "Each attempt's score against the claimed signer's five signatures on file."
    return verify(vectors, tried, enrol(vectors, data, sorted(set(tried.signer.tolist()))))


def train(data: Signatures, signers: list[int], recipe: str, seed: int) -> np.ndarray:
    "Vectors (N, 304) of all signatures by towers that learnt from `signers` alone."
    loss, epochs, source = RECIPES[recipe]
    torch.manual_seed(seed)
    towers = SignatureTowers()
    pairs = SignaturePairs(data, signers, size=64 * STEPS, **source)
    fit(towers, pairs, loss=loss, epochs=epochs, batch_size=64, lr=1e-3, seed=seed, progress=False)
    return towers.encode(data.ink)


def choose(data: Signatures) -> None:
    "Equal error rates on signers held out from the 14, three folds: which recipe each rotation would choose."
    print("validation inside the 14 signers, EER skilled / own thresholds / random, %")
    for r, (learners, _) in enumerate(rotations(data.signers)):
        rows = {}
        for recipe in tqdm(RECIPES, desc=f"rotation {r + 1}", leave=False):
            found = []
            for fold in range(3):
                held = learners[fold::3]
                tried = trials(data, held)
                vectors = train(data, [u for u in learners if u not in held], recipe, seed=0)
                found.append(astuple(judge(score(vectors, data, tried), tried))[:3])
            rows[recipe] = 100 * np.mean(found, 0)
        best = min(rows, key=lambda name: rows[name][0])
        print(f"rotation {r + 1}: " + "; ".join(f"{n} " + "/".join(f"{x:.1f}" for x in v) for n, v in rows.items()))
        print(f"  chosen: {best}")


def measure(data: Signatures, seeds: int) -> tuple[dict[str, Summary], float]:
    "The table's rows, and the longest training in seconds."
    scores: dict[str, list[np.ndarray]] = {}
    tried_in, longest = [], 0.0
    flat = F.normalize(features(data.ink).flatten(1), dim=1).numpy()
    points = np.log(data.ink.points.numpy())
    bar = tqdm(total=seeds * 5 * len(RECIPES), desc="trainings")
    for learners, tested in rotations(data.signers):
        tried, known = trials(data, tested), trials(data, learners)
        usual = {u: points[data.rows(u)[:5]].mean() for u in tested}
        hard = known.kind != "random"
        warped, warped_unit = time_warping(data, tried), time_warping(data, known)
        for seed in range(seeds):
            tried_in.append(tried)
            row = {"duration alone": -np.abs(points[tried.row] - [usual[u] for u in tried.signer]),
                   "no network: cosine of the curves": score(flat, data, tried)}
            for recipe in RECIPES:
                began = time.perf_counter()
                vectors = train(data, learners, recipe, seed)
                longest = max(longest, time.perf_counter() - began)
                row[recipe] = score(vectors, data, tried)
                bar.update()
            rough = {u: unpack(pack(file)) for u, file in enrol(vectors, data, tested).items()}
            row["the same, 80 bytes on file"] = verify(vectors, tried, rough)
            row["time warping, no training"] = warped
            row["triplet + time warping"] = fuse([row[BEST], warped], [score(vectors, data, known)[hard], warped_unit[hard]],
                                                 (1 / 3, 2 / 3))
            for name, values in row.items():
                scores.setdefault(name, []).append(values)
    bar.close()
    return {name: judge_rotations(values, tried_in) for name, values in scores.items()}, longest


def main() -> None:
    "Read the options, then choose or measure."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="SVC2004's files, a folder or tar archive; without it 20 invented signers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="only compare recipes on signers inside the 14")
    parser.add_argument("--out", type=Path, help="write the table here as JSON")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    data = load_svc2004(args.data) if args.data else generate(20)
    print(data)
    if args.choose:
        return choose(data)
    rows, longest = measure(data, args.seeds)
    about = (f"{data.name}, {len(data.signers)} signers, 5 rotations of 14 to learn from and 6 to test, {args.seeds} seeds; "
             f"5 references, then 15 genuine, 20 skilled and 75 random attempts a signer; fingerprint {data.fingerprint}")
    print(about)
    table = {"chance": [[50.0] * 3] * 3 + [[4.5] * 3]}  # exact: a score that knows nothing
    for name, summary in rows.items():
        print(f"{name:38}{summary}")
        mean, low, high = astuple(summary)
        table[name] = [[round(100 * x, 2) for x in cell] for cell in zip(mean, low, high, strict=True)]
    print(f"longest training of a rotation: {longest:.0f} s")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.out) as part:
            part.write_text(json.dumps({"about": about, "rows": table}, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
