"""Training pairs per second against the usual way, at equal data, dimension, batch, loss, epochs; and what it taught.

    python benchmarks/training_speed.py [--data pydocs] [--dim 256] [--batch 256] [--epochs 4] [--threads N]

Ours: EmbeddingBag over flat ids, learned word weights, RowAdagrad on the rows that a batch reads. The usual way: ids
padded to the longest text of the batch, nn.Embedding, masked mean, Adam over the whole table. Tokens, pairs and `fit`
are the same.
The usual way may choose the best of two learning rates, by the very figure that is reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from timing import clock, medians, number, row, set_threads
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from two_towers.data import load
from two_towers.towers import DualEncoder, lengths
from two_towers.train import Batch, fit, validate
from two_towers.words import PAD, Bags, Tokenizer, Tokens


class Padded(nn.Module):
    """The usual way: one table, read whole batches of padded ids, mean over what is no padding."""

    def __init__(self, tokenizer: Tokenizer, dim: int, max_len: int):
        super().__init__()
        self.tokenizer, self.max_len = tokenizer, max_len
        self.table = nn.Embedding(tokenizer.vocab_size, dim, padding_idx=PAD)
        nn.init.normal_(self.table.weight, std=dim**-0.5)  # as ours starts

    def encode(self, ids: Tensor) -> Tensor:
        """Padded ids (B, L) -> (B, dim) of unit length."""
        real = (ids != PAD).float()[..., None]  # (B, L, 1)
        return normalize((self.table(ids) * real).sum(1) / real.sum(1).clamp(min=1), dim=-1)

    encode_query = encode_document = encode

    def tokens(self, texts: Mapping[str, str] | Sequence[str]) -> Tokens:
        """The same tokens as ours."""
        return self.tokenizer.encode(texts.values() if isinstance(texts, Mapping) else texts, self.max_len)

    @torch.no_grad()
    def encode_texts(self, texts: Mapping[str, str] | Sequence[str], *, side: str) -> np.ndarray:
        """Vectors of the texts, (n, dim)."""
        tokens = self.tokens(texts)
        parts = [np.arange(lo, min(lo + 256, len(tokens))) for lo in range(0, len(tokens), 256)]
        return torch.cat([self.encode(padded(tokens.take(rows))) for rows in parts]).numpy()


def padded(bags: Bags) -> Tensor:
    """Flat ids -> (B, longest text of the batch)."""
    return pad_sequence(torch.split(bags.ids, lengths(bags).tolist()), batch_first=True, padding_value=PAD)


@dataclass
class Some:
    """The first `steps` batches of an epoch (None: all), padded or not: a source of `Pairs` over another."""

    source: Any
    batch: int
    steps: int | None = None
    pad: bool = False

    def __len__(self) -> int:
        return len(self.source) if self.steps is None else min(len(self.source), self.steps * self.batch)

    def epoch(self, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """The other's batches."""
        for batch in islice(self.source.epoch(batch_size, rng), self.steps):
            yield replace(batch, query=padded(batch.query), document=padded(batch.document)) if self.pad else batch


def run(data: str = "pydocs", dim: int = 256, batch: int = 256, epochs: int = 4, steps: int = 10, rounds: int = 3,
        threads: int | None = None) -> list[dict[str, Any]]:
    """Two rows: pairs per second over `steps` batches, and MRR@10 on validation after `epochs` epochs of each."""
    tick = clock(set_threads(threads))
    collection = load(data)
    tokenizer = Tokenizer.train(collection.corpus.values())
    settings = {"batch_size": batch, "progress": False, "device": "cpu"}

    def ours() -> DualEncoder:
        return DualEncoder.for_corpus(collection, dim=dim, lexical=0, tokenizer=tokenizer)

    mine = ours()
    pairs = collection.train.pairs(mine.tokens)
    torch.manual_seed(0)
    theirs = Padded(tokenizer, dim, mine.config.max_len)
    short = [Some(pairs, batch, steps, pad) for pad in (False, True)]
    us, them = medians(rounds, tick, lambda: fit(mine, short[0], epochs=1, **settings),
                       lambda: fit(theirs, short[1], epochs=1, **settings))
    seen = len(short[0])
    valid, whole = collection.validation, [Some(pairs, batch, pad=pad) for pad in (False, True)]
    mine = ours()
    fit(mine, whole[0], epochs=epochs, **settings)
    quality, usual = validate(mine, valid), []
    for rate in (2e-3, 1e-2):
        torch.manual_seed(0)
        theirs = Padded(tokenizer, dim, mine.config.max_len)
        fit(theirs, whole[1], epochs=epochs, lr=rate, **settings)
        usual.append(validate(theirs, valid))
    name = f"{data}, {dim} dimensions, batches of {batch} (peer: padded nn.Embedding, masked mean, Adam)"
    after = f"quality after {epochs} epochs, {len(valid):,} validation queries"
    return [row(name, seen / us, seen / them, "pairs/s"), row(after, quality, max(*usual, 1e-9), "MRR@10")]


def main() -> None:
    """Reads the options and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    for name, default in (("dim", 256), ("batch", 256), ("epochs", 4), ("steps", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int)
    for r in run(**vars(parser.parse_args())):
        print(f"{r['name']:90}{number(r['ours']):>10}{number(r['peer']):>10} {r['unit']}  ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
