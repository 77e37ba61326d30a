"""Encoding by a one-directional network without padding (`swept`) against packed sequences, at equal output.

    python benchmarks/recurrent_speed.py [--data pydocs] [--documents 4096] [--dim 128] [--words 64] [--rounds 3] [--threads N]

The peer looks its words up, packs a batch of texts as they come, runs PyTorch's network and unpacks. Equal means: each
text's summed states, divided by its words, differ by less than 1e-6; that is checked first.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from timing import clock, medians, number, row, set_threads


def run(data: str = "pydocs", documents: int = 4096, dim: int = 128, words: int = 64, batches: tuple[int, ...] = (32, 256),
        rounds: int = 3, threads: int | None = None) -> list[dict[str, Any]]:
    """Documents per second of RNN, GRU and LSTM, one row for each batch size of the peer."""
    tick = clock(set_threads(threads))
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

    from two_towers.data import load
    from two_towers.rnn import buckets, picked, shortened, swept, total
    from two_towers.sketch import lengths
    from two_towers.words import Tokenizer

    corpus = load(data).corpus
    tokenizer = Tokenizer.train(corpus.values())
    tokens = tokenizer.encode(corpus.values(), words)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(tokens.lengths))[:documents]
    torch.manual_seed(0)
    vectors, n = torch.randn(tokenizer.vocab_size, dim) / dim**0.5, torch.from_numpy(tokens.lengths[rows])[:, None]

    def mine(net: nn.RNNBase) -> Any:
        bags = shortened(tokens.take(rows), words)
        out = torch.zeros(len(bags), dim)
        for some in buckets(lengths(bags), 512):
            part = picked(bags, some)
            out[some] = total(swept(net, vectors, part), part, torch.ones(len(part.ids), 1))
        return out

    def peer(net: nn.RNNBase, size: int) -> Any:
        found = []
        for lo in range(0, len(rows), size):
            texts = [torch.from_numpy(tokens.row(r).astype(np.int64)) for r in rows[lo : lo + size]]
            x = vectors[pad_sequence(texts, batch_first=True)]
            packed = pack_padded_sequence(x, [len(t) for t in texts], batch_first=True, enforce_sorted=False)
            found.append(pad_packed_sequence(net(packed)[0], batch_first=True)[0].sum(1))
        return torch.cat(found)

    found = []
    with torch.no_grad():
        for kind in (nn.RNN, nn.GRU, nn.LSTM):
            net = kind(dim, dim, batch_first=True)
            for size in batches:
                off = ((mine(net) - peer(net, size)) / n).abs().max().item()
                assert off < 1e-6, f"{kind.__name__}: {off} apart"
                ours, other = medians(rounds, tick, lambda net=net: mine(net), lambda net=net, size=size: peer(net, size))
                title = f"{kind.__name__} of {dim}, {len(rows):,} documents of up to {words} words (peer: packed, {size} at once)"
                found.append(row(title, len(rows) / ours, len(rows) / other, "documents/s"))
    return found


def main() -> None:
    """Reads the options and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    for name, default in (("documents", 4096), ("dim", 128), ("words", 64), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int)
    o = parser.parse_args()
    for r in run(o.data, o.documents, o.dim, o.words, rounds=o.rounds, threads=o.threads):
        print(f"{r['name']:84}{number(r['ours']):>8}{number(r['peer']):>8} {r['unit']}  ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
