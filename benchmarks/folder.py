"""What a search of one's own documents is worth without a label: pydocs written out as Markdown and read like any folder.

    python benchmarks/folder.py [--data pydocs] [--seeds 2] [--threads 1] [--quick] [--out benchmarks/measured/folder.json]

One file a module, one heading a docstring; `load(folder)` reads it as it reads any other. The test queries of the collection
are asked, and right is every passage that stands on the lines of the right docstring. Nothing is tuned: BM25 has k1 0.9 and
b 0.4, the towers are pre-trained as `two-towers train` does it, the hybrid has its fixed weight. Three ways to cut are compared:
as `passages` does it; the same without the headings; and windows of 120 words that pay no heed to headings or paragraphs.
A window is right as soon as it touches the docstring, so there are more right windows than right passages ("right passages",
a question's mean, says how many), and the third cut is easier than the others: no fair comparison with them.
A query's values are averaged over the seeds, then means and intervals over the queries are taken.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from timing import clock, set_threads

METRICS = ("MRR@10", "found in 100")
CUTS = ("as here", "without headings", "windows of 120 words")


def write(c: Any, folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """The corpus as Markdown below `folder`; file -> document -> its first and last line."""
    modules: dict[str, list[str]] = defaultdict(list)
    for d in c.corpus:
        modules[c.urls[d].split(".")[0]].append(d)
    lines: dict[str, dict[str, tuple[int, int]]] = {}
    for module, ids in modules.items():
        name, text, at = re.sub(r"\W", "_", module) + ".md", [f"# {module}", ""], 3
        where = lines.setdefault(name, {})
        for d in sorted(ids, key=lambda d: c.urls[d]):
            body = [f"## {c.urls[d].partition('.')[2] or module}", "", *c.corpus[d].replace("\r", "").split("\n"), ""]
            if sum(line.strip().startswith("```") for line in body) % 2:  # a cut docstring left its fence open
                body.insert(-1, "```")
            where[d] = at, at + len(body) - 2
            text += body
            at += len(body)
        (folder / name).write_text("\n".join(text), encoding="utf8", errors="replace")
    return lines


def windows(folder: Path, words: int = 120) -> Any:
    """The files' words, `words` at a time."""
    from two_towers.data import Collection, text_id

    c = Collection(folder.name, {}, {}, {})
    for path in sorted(folder.glob("*.md")):
        found = [(i, w) for i, line in enumerate(path.read_text(encoding="utf8").split("\n"), 1) for w in line.split()]
        for lo in range(0, len(found), words):
            part = found[lo : lo + words]
            text = " ".join(w for _, w in part)
            c.corpus[text_id(text)] = text
            c.urls.setdefault(text_id(text), f"{path.name}#L{part[0][0]}-L{part[-1][0]}")
    return c


def judged(c: Any, source: Any, lines: dict[str, dict[str, tuple[int, int]]]) -> tuple[Any, dict[str, float]]:
    """`c` with the test queries of `source`: right is each passage whose lines meet those of the right document."""
    right: dict[str, set[str]] = defaultdict(set)
    for d, url in c.urls.items():
        name, first, last = re.fullmatch(r"(.*)#L(\d+)(?:-L(\d+))?", url).groups()  # type: ignore[union-attr]
        for document, (lo, hi) in lines[name].items():
            if int(first) <= hi and lo <= int(last or first):
                right[document].add(d)
    c.queries = dict(source.test.queries)
    c.qrels = {"test": {q: {d: 1 for document in j for d in sorted(right[document])} for q, j in source.test.qrels.items()}}
    sizes = [len(j) for j in c.qrels["test"].values()]
    c.qrels["test"] = {q: j or {"": 1} for q, j in c.qrels["test"].items()}  # not found, whatever is searched
    return c, {"without a right passage": sizes.count(0), "right passages": round(float(np.mean(sizes)), 2)}


def bare(c: Any, path: Path) -> Any:
    """`c` with the headings taken off its texts."""
    lines = (line for p in path.glob("*.md") for line in p.read_text(encoding="utf8").split("\n"))
    titles = {line.lstrip("# ") for line in lines if line[:1] == "#"}
    kept = {d: [p for p in t.split("\n\n") if not all(h in titles for h in p.split(" > "))] for d, t in c.corpus.items()}
    c.corpus = {d: "\n\n".join(parts) or c.corpus[d] for d, parts in kept.items()}
    return c


def main(argv: list[str] | None = None) -> int:
    """Measures, writes, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured" / "folder.json")
    a = parser.parse_args(argv)
    tick = clock(set_threads(a.threads))
    from two_towers.checkpoint import replacing
    from two_towers.data import load
    from two_towers.evaluate import FIXED, evaluate
    from two_towers.metrics import Scores, measure
    from two_towers.passages import size
    from two_towers.recipe import Recipe, train_model

    source, cuts, lengths = load(a.data), [], np.zeros(0)
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp) / "docs"
        folder.mkdir()
        lines = write(source, folder)
        for cut in CUTS:
            c, told = judged(windows(folder) if cut.startswith("windows") else load(folder), source, lines)
            if cut == "as here":
                lengths = np.array([size(t) for t in c.corpus.values()])
            if cut == "without headings":
                c = bare(c, folder)
            values: dict[str, list[dict[str, np.ndarray]]] = defaultdict(list)
            begin = tick()
            for seed in range(a.seeds):
                recipe = Recipe(seed=seed, **({"dim": 16, "pretrain_epochs": 1} if a.quick else {}))
                unjudged = type(c)(c.name, c.corpus, {}, {})
                model, _ = train_model(unjudged, recipe, progress=False)
                report = evaluate(model, c.test, k1=FIXED[0], b=FIXED[1], progress=False)
                for row, run in report.runs.items():
                    scores = measure(run, c.qrels["test"], ["MRR@10", "MRR@100"])
                    values[row].append({"MRR@10": scores.values["MRR@10"], "found in 100": scores.values["MRR@100"] > 0})
                    queries = scores.queries
            rows = {}
            for row, seeds in values.items():
                mean = Scores(queries, {m: np.mean([s[m] for s in seeds], 0) for m in METRICS}, 0, 0)
                rows[row] = {m: [round(x, 4) for x in (mean.mean(m), *mean.ci(m))] for m in METRICS}
            cuts.append({"cut": cut, "passages": len(c.corpus), **told, "rows": rows, "seconds": round(tick() - begin, 1)})
            print(cut, json.dumps(cuts[-1]), flush=True)
    counts, edges = np.histogram(lengths, np.arange(0, 221, 10))
    found = {"data": source.name, "fingerprint": source.fingerprint, "queries": len(source.test), "files": len(lines),
             "seeds": a.seeds, "quick": a.quick, "threads": a.threads, "cuts": cuts,
             "lengths": {"edges": edges.tolist(), "counts": counts.tolist(), "median": float(np.median(lengths))}}
    with replacing(a.out) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
