"""Documents per second from raw text to vectors, against sentence-transformers' StaticEmbedding of the same dimension.

    python benchmarks/encode_speed.py [--data pydocs] [--documents 6000] [--rounds 5] [--threads N]

Two peers: with its usual tokeniser, WordPiece of BERT's kind, trained on the same corpus; and with our tokenizer.json,
so that both look up the same words. Both sides read every word of the text and give vectors of unit length. The peer
gets the batch size that suits it best. Its tokeniser is compiled and uses all threads; ours is Python's string methods.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from timing import clock, medians, number, row, set_threads

BATCHES = (32, 256, 1024)  # sentence-transformers' default, and larger
WHOLE = 1_000_000  # words: no text is cut short, as StaticEmbedding cuts none


def wordpiece(texts: list[str], words: int) -> Any:
    """BERT's kind of tokeniser, uncased, trained on `texts`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=words, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    made.train_from_iterator(texts, trainer)
    return made


def run(data: str = "pydocs", documents: int = 6000, dim: int = 256, lexical: int = 768, words: int = 30_000,
        rounds: int = 5, threads: int | None = None) -> list[dict[str, Any]]:
    """One row for each width (learned part alone, with the sketch beside it) and each of the peer's tokenisers."""
    tick = clock(set_threads(threads))
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer as Compiled

    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ModuleNotFoundError:  # before version 6
        from sentence_transformers.models import StaticEmbedding

    from two_towers.data import load
    from two_towers.towers import DualEncoder

    collection = load(data)
    every = list(collection.corpus.values())
    texts = every[:: max(1, len(every) // documents)][:documents]
    ours = {size: DualEncoder.for_corpus(collection, dim=dim, lexical=size, max_len=WHOLE) for size in (0, lexical)}
    tokenizer = ours[0].tokenizer
    own = Compiled.from_str(json.dumps(tokenizer._as_json()))
    sample, tokens = texts[:100], tokenizer.encode(texts[:100])
    same = sum(own.encode(text).ids == tokens.row(i).tolist() for i, text in enumerate(sample))
    assert same >= 0.98 * len(sample), f"only {same} of {len(sample)} texts get the same ids from tokenizer.json"
    rows = []
    for size, model in ours.items():
        for called, peer in (("WordPiece", wordpiece(every, words)), ("our tokenizer.json", own)):
            static = SentenceTransformer(modules=[StaticEmbedding(peer, embedding_dim=dim + size)], device="cpu")

            def encode(part: list[str], batch: int, static: Any = static) -> None:
                static.encode(part, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)

            trial = texts[: max(1, len(texts) // 4)]
            speeds = medians(1, tick, *(partial(encode, trial, b) for b in BATCHES))
            best = BATCHES[speeds.index(min(speeds))]
            mine = partial(model.encode_texts, texts, side="document")
            us, them = medians(rounds, tick, mine, partial(encode, texts, best))
            what = f"{dim} learned + {size} of sketch" if size else f"{dim} learned"
            name = f"{what} (peer: StaticEmbedding of {dim + size}, {called}, batches of {best})"
            rows.append(row(name, len(texts) / us, len(texts) / them, "documents/s"))
    return rows


def main() -> None:
    """Reads the options and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    o = parser.parse_args()
    for r in run(o.data, o.documents, rounds=o.rounds, threads=o.threads):
        print(f"{r['name']:100}{number(r['ours']):>10}{number(r['peer']):>10} {r['unit']}  ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
