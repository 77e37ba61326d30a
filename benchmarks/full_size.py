"""Does a full-size MS MARCO v1.1 load, and is it tokenised, in under 4 GiB?

    python benchmarks/full_size.py --rows FILE.parquet [--size 82326]

Repeats the real rows of FILE up to the size of v1.1's training split, 82,326 rows and about 676,000 passages, with ids and
texts changed so that no two are the same document; loads that file and tokenises its corpus, each in a process of its own.
Prints seconds and the peak of resident memory. Needs about 110 MB of disk in the temp folder.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = "--measure"


def build(rows: Path, size: int, out: Path) -> int:
    """A parquet file of `size` rows made of those in `rows`; the number of its passages."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    real = pq.read_table(rows, columns=["answers", "passages", "query", "query_id", "query_type"])
    source, passages = real.to_pylist(), 0
    with pq.ParquetWriter(out, real.schema, compression="zstd") as writer:
        for start in range(0, size, 5000):
            chunk = []
            for i in range(start, min(size, start + 5000)):
                row, copy = source[i % len(source)], i // len(source)
                texts = [f"{t} copy{copy}" for t in row["passages"]["passage_text"]]
                passages += len(texts)
                chunk.append(
                    {
                        **row,
                        "query": f"{row['query']} copy{copy}",
                        "query_id": i,
                        "passages": {**row["passages"], "passage_text": texts},
                    }
                )
            writer.write_table(pa.Table.from_pylist(chunk, schema=real.schema))
    return passages


def peak() -> float:
    """The peak of this process's resident memory, GiB."""
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss / (2**30 if sys.platform == "darwin" else 2**20)


def measure(path: Path) -> None:
    """Load and tokenise `path`, in this process; print what it took."""
    from two_towers.data import load
    from two_towers.words import Tokenizer

    start = time.perf_counter()
    collection = load(path)
    loaded = time.perf_counter()
    print(f"load        {loaded - start:6.1f} s   peak {peak():.2f} GiB   {collection!r}", flush=True)
    tokenizer = Tokenizer.train(collection.corpus.values())
    trained = time.perf_counter()
    print(
        f"vocabulary  {trained - loaded:6.1f} s   peak {peak():.2f} GiB   {tokenizer.vocab_size:,} entries", flush=True
    )
    tokens = tokenizer.encode(collection.corpus.values(), max_len=200, progress=True)
    done = time.perf_counter()
    print(
        f"tokens      {done - trained:6.1f} s   peak {peak():.2f} GiB   {len(tokens):,} texts, {len(tokens.ids):,} words"
    )
    print(f"together    {done - start:6.1f} s   peak {peak():.2f} GiB   {'under' if peak() < 4 else 'NOT UNDER'} 4 GiB")


def main() -> None:
    """Build the file, then measure in a fresh process so that building does not count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True, help="a parquet file of real MS MARCO rows")
    parser.add_argument("--size", type=int, default=82_326, help="rows to build (default: as many as v1.1 trains on)")
    parser.add_argument(CHILD, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.parquet"
        passages = build(options.rows, options.size, path)
        print(
            f"built       {options.size:,} rows, {passages:,} passages, {path.stat().st_size / 1e6:,.0f} MB", flush=True
        )
        sys.exit(subprocess.run([sys.executable, __file__, "--rows", str(path), CHILD]).returncode)


if __name__ == "__main__":
    main()
