"""A pretrained transformer as a tower, untouched and trained, beside BM25: on validation and on test, every query.

    python benchmarks/pretrained.py --data BEIR_FOLDER|pydocs [--model minilm] [--train query|both] [--layers 2] [--epochs 2]
        [--lr 0.002] [--batch 128] [--negatives 4] [--temperature 0.05] [--threads 2] [--values runs/pretrained]
        [--out benchmarks/measured/pretrained.json]

The encoder reads 256 word pieces; BM25 reads stemmed words, k1 0.9 and b 0.4 where validation is judged in another way than
test. "trained": of `--train query`, a copy of the encoder learns to read queries and the passages' vectors stay as they are, so
the index does too; of `--train both`, one encoder's last layers learn, and the corpus is encoded again. Negatives are the
untouched encoder's own best that are not known to be right and score below 0.95 of the positive.

Passages are encoded 1,024 at a time into --values, a file a block: what is there is not encoded again. The seconds of a
training hold everything but reading the data and the corpus's untouched vectors, which the search needs anyway:
`encode_seconds` are theirs, null where the vectors were there before.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from timing import set_threads

METRICS = ("MRR@10", "nDCG@10", "Recall@10", "Recall@100")
BLOCK = 1024


class Blocks:
    """A model whose passages are encoded in blocks that are kept on disk. `evaluate` takes it as the model itself."""

    def __init__(self, model: Any, folder: Path, corpus: dict[str, str]) -> None:
        self.model, self.folder, self.corpus, self.seconds = model, folder, corpus, 0.0
        self.tokens, self.lexical_tokens, self.bm25_reads = model.tokens, model.lexical_tokens, model.bm25_reads
        folder.mkdir(parents=True, exist_ok=True)

    def encode_texts(self, texts: Any, *, side: str) -> np.ndarray:
        """The model's vectors; of the corpus, from the blocks."""
        if texts is not self.corpus:
            return self.model.encode_texts(texts, side=side)
        listed, blocks, timed = list(texts.values()), [], self.folder / "seconds.json"
        spent = json.loads(timed.read_text()) if timed.exists() else {}
        for lo in range(0, len(listed), BLOCK):
            path, begin = self.folder / f"{lo:07}.npy", time.perf_counter()
            if not path.exists():
                temporary = path.with_suffix(".tmp")
                with open(temporary, "wb") as f:
                    np.save(f, self.model.encode_texts(listed[lo:lo + BLOCK], side=side))
                temporary.rename(path)
                spent[path.name] = round(time.perf_counter() - begin, 1)
                timed.write_text(json.dumps(spent))
                print(f"{lo + BLOCK:,} of {len(listed):,} passages, {sum(spent.values()):.0f} s", flush=True)
            blocks.append(np.load(path, allow_pickle=False))
        self.seconds = round(sum(spent.values()), 1)
        return np.concatenate(blocks)


def negatives(split: Any, documents: np.ndarray, queries: np.ndarray, n: int = 30) -> Any:
    """`mined_negatives`, from vectors that are there."""
    from two_towers.negatives import mined_negatives

    class Vectors:
        def encode_texts(self, texts: Any, *, side: str) -> np.ndarray:
            return documents if side == "document" else queries

    return mined_negatives(Vectors(), split, n).below(0.95)


def train(data: Any, o: argparse.Namespace, documents: np.ndarray, tokenizer: Any) -> tuple[Any, dict[str, Any]]:
    """The trained model, and what it took."""
    import torch

    from two_towers.hard_pairs import HardPairs
    from two_towers.towers import DualEncoder
    from two_towers.train import fit

    begin = time.perf_counter()
    model = DualEncoder.for_corpus(data, "pretrained", model=o.model, shared=o.train == "both", train_layers=o.layers,
                                   tokenizer=tokenizer, progress=False)
    if o.train == "query":  # the vectors that the index holds need not be made again
        tower, tokens = model.document_tower, model.tokens(data.corpus)
        for lo in range(0, len(tokens), BLOCK):
            rows = np.arange(lo, min(lo + BLOCK, len(tokens)))
            for text, vector in zip(tower.framed(tokens.take(rows), "document"), documents[rows], strict=True):
                tower.kept[text.numpy().tobytes()] = torch.from_numpy(vector)
    source = data.train
    if o.negatives:
        hard = negatives(data.train, documents, model.encode_texts(data.train.queries, side="query"))
        source = HardPairs(model.tokens, data.train, hard, o.negatives)
    history = fit(model, source, epochs=o.epochs, lr=o.lr, batch_size=o.batch, temperature=o.temperature, progress=False)
    about = {"train": o.train, "layers": o.layers, "epochs": o.epochs, "lr": o.lr, "batch": o.batch, "negatives": o.negatives,
             "temperature": o.temperature, "seconds": round(time.perf_counter() - begin, 1), "threads": torch.get_num_threads(),
             "loss": [round(row["loss"], 4) for row in history.rows]}
    return model, about


def measured(report: Any, name: str) -> dict[str, Any]:
    """A report's rows, the model's called `name`."""
    rows = report.to_dict()["rows"]
    return {"chance": rows["chance"], "bm25": rows["bm25"], name: rows["model"], f"hybrid of {name}": rows["hybrid"]}


def main() -> None:
    """Measure, and write after each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--train", choices=("query", "both"), default="query")
    for name, default in {"layers": 2, "epochs": 2, "batch": 128, "negatives": 4, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--values", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "pretrained.json")
    o = parser.parse_args()
    set_threads(o.threads)

    from two_towers.checkpoint import replacing
    from two_towers.data import load
    from two_towers.evaluate import evaluate
    from two_towers.metrics import compare
    from two_towers.towers import DualEncoder

    data = load(o.data)
    untouched = DualEncoder.for_corpus(data, "pretrained", model=o.model, progress=False)
    place = o.values / f"{data.name}-{data.fingerprint}"
    before = Blocks(untouched, place / "untouched", data.corpus)
    splits = (data.validation, data.test)
    reports = {split.name: evaluate(before, split, metrics=METRICS, progress=False) for split in splits}
    documents = before.encode_texts(data.corpus, side="document")
    model, about = train(data, o, documents, untouched.tokenizer)
    after = Blocks(model, place / ("untouched" if o.train == "query" else f"both-{o.layers}-{o.epochs}-{o.lr:g}"), data.corpus)
    found: dict[str, Any] = {"data": data.name, "fingerprint": data.fingerprint, "corpus_size": len(data.corpus),
                             "model": o.model, "max_len": untouched.config.max_len, "encode_seconds": before.seconds or None,
                             "training": about, "splits": {}}
    for split in splits:
        first, then = reports[split.name], evaluate(after, split, metrics=METRICS, progress=False)
        pairs = {"trained - untouched": (then.scores["model"], first.scores["model"]),
                 "trained - bm25": (then.scores["model"], first.scores["bm25"]),
                 "hybrid - trained": (then.scores["hybrid"], then.scores["model"])}
        tests = {name: {m: vars(compare(a, b, m)) for m in METRICS[:2]} for name, (a, b) in pairs.items()}
        found["splits"][split.name] = {"queries": first.queries, "bm25": first.bm25, "rows": measured(first, "untouched")
                                       | measured(then, "trained"), "compare": tests}
        with replacing(o.out) as temporary:
            temporary.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf8")
        print(first, then, json.dumps(tests, indent=1, default=float), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
