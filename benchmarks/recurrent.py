"""What reading in order is worth: average pooling, RNN, GRU, LSTM and BiGRU of one dimension, trained alike.

    python benchmarks/recurrent.py [--data pydocs] [--folder BEIR_FOLDER] [--seeds 1] [--rows NAME ...] [--threads 1]
        [--ledger benchmarks/measured/rnn.json]

The learned part alone is measured (no lexical sketch on any row), all rows read the same words of a text and start from
the same random word vectors; the epoch is chosen on validation. "shuffled" rows read every text in a random order, in
training and after it. Each row joins the ledger as soon as it is measured and replaces an older one of its kind; the
table is drawn from the ledger. Every number against "avgpool" is of the same seed and run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from timing import clock, set_threads, table

ROWS: dict[str, dict[str, Any]] = {
    "avgpool": {"tower": "avgpool"},
    "rnn": {"tower": "rnn"},
    "gru": {"tower": "gru"},
    "lstm": {"tower": "lstm"},
    "bigru": {"tower": "gru", "both_ways": True},
    "gru, max": {"tower": "gru", "read_out": "max"},
    "gru, last": {"tower": "gru", "read_out": "last"},
    "gru, no skip": {"tower": "gru", "skip": False},
    "gru, shuffled": {"tower": "gru"},
    "avgpool, 256 words": {"tower": "avgpool", "max_len": 256},
    "avgpool, as long as the LSTM": {"tower": "avgpool"},
}
LONGER = {"avgpool, as long as the LSTM": 8}  # times as many epochs; what is best on validation is kept


def shuffled(data: Any) -> Any:
    """The collection with the words of each text in a random order."""
    from two_towers.words import words

    draw = np.random.default_rng(0)
    mix = {name: {i: " ".join(draw.permutation(words(text)[:64])) for i, text in getattr(data, name).items()}
           for name in ("corpus", "queries")}
    return replace(data, name=f"{data.name}, words shuffled", **mix)


def judge(model: Any, split: Any) -> Any:
    """The learned towers' Scores over the whole corpus, by exact search."""
    from two_towers.index import ExactIndex
    from two_towers.lexical import to_run
    from two_towers.metrics import measure

    ids, asked = list(split.corpus), list(split.qrels)
    documents = model.encode_texts(split.corpus, side="document")
    queries = model.encode_texts([split.queries[q] for q in asked], side="query")
    scores, indices = ExactIndex(documents, ids).search(queries, 100)
    return measure(to_run(asked, ids, indices, scores), split.qrels)


def make(data: Any, name: str, seed: int, o: argparse.Namespace, tick: Any) -> tuple[Any, dict[str, Any]]:
    """One row's model, and what it cost."""
    from two_towers.evaluate import primary
    from two_towers.pretrain import inverse_cloze, mixed
    from two_towers.recipe import Recipe
    from two_towers.towers import DualEncoder
    from two_towers.train import fit

    recipe, times = Recipe(), LONGER.get(name, 1)
    settings = {"dim": o.dim, "max_len": o.words, **ROWS[name]}
    if settings["tower"] != "avgpool":
        settings["reads"] = o.words
    model = DualEncoder.for_corpus(data, lexical=0, seed=seed, progress=False, **settings)
    valid, cloze = data.validation.sample(500), inverse_cloze(data.corpus)
    shared = {"batch_size": recipe.batch, "seed": seed, "progress": sys.stderr.isatty(), "device": "cpu"}
    start = tick()
    fit(model, cloze, epochs=o.pretrain_epochs * times, lr=recipe.pretrain_lr, **shared)
    pretrained = tick() - start
    fit(model, mixed(data.train.pairs(model.tokens), cloze, 0.5), valid=valid, metric=primary(data.test.qrels),
        epochs=o.epochs * times, lr=recipe.lr, **shared)
    took, n = tick() - start, min(len(data.corpus), 8192)
    some = dict(list(data.corpus.items())[:n])
    model.tokens(some)  # tokenising is the same for all
    begin = tick()
    model.encode_texts(some, side="document")
    speed = n / (tick() - begin)
    parameters = sum(p.numel() for n, p in model.named_parameters() if ".net." in n)
    return model, {"seconds": round(took, 1), "pretrain_seconds": round(pretrained, 1), "documents_per_second": round(speed),
                   "recurrent_parameters": parameters,
                   "settings": settings | {"epochs": o.epochs * times, "pretrain_epochs": o.pretrain_epochs * times}}


def collection(name: str, o: argparse.Namespace, tick: Any) -> None:
    """Measures the wanted rows of one collection and puts them into the ledger."""
    from two_towers.data import load
    from two_towers.evaluate import primary
    from two_towers.metrics import compare

    data = load(name, limit=o.limit)
    first = primary(data.test.qrels)
    for seed in range(o.seeds):
        base = None
        for row in [r for r in ROWS if r in o.rows or r == "avgpool"]:
            source = shuffled(data) if "shuffled" in row else data
            model, cost = make(source, row, seed, o, tick)
            scores = {split: judge(model, getattr(source, split)) for split in ("validation", "test")}
            base = base or scores
            entry = {"data": data.name, "fingerprint": data.fingerprint, "row": row, "seed": seed, "primary": first,
                     "corpus_size": len(data.corpus), "threads": o.threads, **cost}
            for split, found in scores.items():
                metrics = (first, "MRR@10", "nDCG@10", "Recall@100")
                entry[split] = {m: round(found.mean(m), 4) for m in metrics}
                entry[split]["queries"] = len(found.queries)
                entry[split]["ci"] = {m: [round(x, 4) for x in found.ci(m)] for m in metrics}
                if row != "avgpool":
                    c = compare(found, base[split], "nDCG@10")
                    entry[split]["against_avgpool"] = {k: round(float(getattr(c, k)), 4) for k in ("diff", "lo", "hi", "p")}
            write(o.ledger, entry)
            print(f"{data.name} {row} seed {seed}: validation {entry['validation'][first]:.3f} test {entry['test'][first]:.3f} "
                  f"in {cost['seconds']:.0f} s", file=sys.stderr, flush=True)


def read(ledger: Path) -> list[dict[str, Any]]:
    """The ledger's rows; none where there is no file."""
    return json.loads(ledger.read_text(encoding="utf8")) if ledger.exists() else []


def write(ledger: Path, entry: dict[str, Any]) -> None:
    """`entry` into the ledger, in one step, in place of an older one of its kind."""
    from two_towers.checkpoint import replacing

    kind = ("data", "row", "seed")
    kept = [e for e in read(ledger) if any(e[k] != entry[k] for k in kind)]
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with replacing(ledger) as temporary:
        temporary.write_text("[\n" + ",\n".join(json.dumps(e) for e in [*kept, entry]) + "\n]\n", encoding="utf8")


def lines(entries: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    found = []
    for e in entries:
        cells = [f"{e['test'][m]:.3f} [{e['test']['ci'][m][0]:.3f}, {e['test']['ci'][m][1]:.3f}]" for m in ("MRR@10", "nDCG@10")]
        against = e["test"].get("against_avgpool")
        p = f"{against['diff']:+.3f} (p {against['p']:.3f})" if against else ""
        cells += [p, f"{e['validation'][e['primary']]:.3f}", f"{e['seconds']:.0f}", f"{e['documents_per_second']:,}"]
        found.append([f"{e['data']}, seed {e['seed']}", e["row"], *cells])
    return found


def main() -> None:
    """Reads the options, measures, prints the ledger as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["pydocs"])
    parser.add_argument("--folder", help="a collection in BEIR's layout, with all three splits")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--words", type=int, default=64, help="read of each text")
    parser.add_argument("--pretrain-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="rows of each split")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ledger", type=Path, default=Path("benchmarks/measured/rnn.json"))
    o = parser.parse_args()
    tick = clock(set_threads(o.threads))
    for name in [*o.data, *([o.folder] if o.folder else [])]:
        collection(name, o, tick)
    heads = ["data", "tower", "MRR@10", "nDCG@10", "nDCG@10 against avgpool", "validation", "training, s", "documents/s"]
    print(table(heads, lines(read(o.ledger))))


if __name__ == "__main__":
    from ladder import guarded

    guarded(main)
