"""The benchmarks run, on toy sizes; what they measure is not asserted, only its shape. By hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmarks import each other as scripts do, from their own folder; afterwards all is as before."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1" if name.endswith("THREADS") else "false")
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


def call(name: str, *argv: object, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark's main with these arguments."""
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, argv)])
    return module.main()


def test_names_hide_no_module_of_python() -> None:
    assert not {path.stem for path in FOLDER.glob("*.py")} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", ["training_speed", "search_speed", "metrics_speed", "recurrent_speed"])
def test_speed(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call("run", name, "--quick", "--threads", 1, monkeypatch=monkeypatch)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {name}")]
    assert lines
    for line in lines:
        _, _, ours, peer, ratio, unit, machine, _ = (cell.strip() for cell in line.split("|"))
        assert all(float(x.replace(",", "")) > 0 for x in (ours, peer, ratio)) and unit and machine.endswith("/ 1")


def test_ratios_are_kept_and_what_fell_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("metrics_speed", "--quick", "--threads", 1, "--keep", tmp_path)
    call("run", *ask, monkeypatch=monkeypatch)
    assert "nothing to compare with" in capsys.readouterr().out
    last = json.loads((tmp_path / "last.json").read_text())
    assert last["ratios"] and (tmp_path / f"{last['date']}.md").read_text().count("| metrics_speed") == len(last["ratios"])
    name = next(iter(last["ratios"]))
    (tmp_path / "last.json").write_text(json.dumps({**last, "date": "2001-02-03", "ratios": {n: r * (1e9 if n == name else 1e-9)
                                                                                          for n, r in last["ratios"].items()}}))
    call("run", *ask, monkeypatch=monkeypatch)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fell since 2001-02-03")]
    assert len(said) == 1 and name in said[0] and sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md"]
    (tmp_path / "last.json").write_text(json.dumps({**last, "ratios": dict.fromkeys(last["ratios"], 1e-9)}))
    call("run", *ask, monkeypatch=monkeypatch)
    assert "none fell by more than a tenth" in capsys.readouterr().out


def test_encode_speed_or_why_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # as if it were not installed
    call("run", "encode_speed", "--quick", "--threads", 1, monkeypatch=monkeypatch)
    assert "not measured, there is no sentence_transformers here" in capsys.readouterr().out


def test_ratio_above_one_is_better() -> None:
    timing = importlib.import_module("timing")
    assert timing.row("", 2.0, 6.0, "s")["ratio"] == 3 and timing.row("", 6.0, 2.0, "pairs/s")["ratio"] == 3


def test_ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder, file = importlib.import_module("ladder"), tmp_path / "runs" / "ladder.jsonl"
    call("ladder", "--data", "sample", "--quick", "--seeds", 1, "--ledger", file, monkeypatch=monkeypatch)
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(e["rung"] for e in entries) == sorted(["chance", "bm25", *ladder.RUNGS, "unjudged"])
    assert len({(e["fingerprint"], e["corpus_size"], e["queries"]) for e in entries}) == 1
    for e in entries:
        assert set(e["metrics"]) == set(e["ci"]) and e["ci"][e["primary"]][0] <= e["metrics"][e["primary"]]
    by_rung = {e["rung"]: e for e in entries}
    assert by_rung["hybrid"]["seconds"] == by_rung["sketch"]["seconds"]  # one model, two rows
    assert by_rung["mixed"]["settings"]["lexical"] == 0 and "lexical" not in by_rung["sketch"]["settings"]
    assert "pretrain_epochs" not in by_rung["weights"]["settings"]
    picture = tmp_path / "ladder.png"
    call("ladder", "--data", "sample", "--ledger", file, "--plot", picture, monkeypatch=monkeypatch)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def entry(rung: str, seed: int, value: float, data: str = "toy", mark: str = "f") -> dict[str, Any]:
    """A ledger's line."""
    about = {"rung": rung, "seed": seed, "data": data, "split": "test", "fingerprint": mark, "corpus_size": 9, "queries": 3}
    return about | {"primary": "MRR@10", "metrics": {"MRR@10": value}, "ci": {"MRR@10": [value - 0.1, value + 0.1]},
                    "title": rung, "seconds": 1.0, "processor_seconds": 1.0}


def test_ledger_shows_the_last_measurement_of_the_last_data() -> None:
    ladder = importlib.import_module("ladder")
    entries = [entry("bm25", 0, 0.1, mark="old"), entry("sketch", 0, 0.2), entry("sketch", 0, 0.4), entry("sketch", 1, 0.3),
               entry("sketch", 2, 0.9), entry("sketch", 0, 0.0, data="other")]
    found = ladder.latest(entries, "toy", "test")
    assert list(found) == ["sketch"] and sorted(e["metrics"]["MRR@10"] for e in found["sketch"]) == [0.3, 0.4, 0.9]
    assert ladder.middle(found["sketch"], "MRR@10")["metrics"]["MRR@10"] == 0.4
    with pytest.raises(ValueError, match="nothing of toy validation"):
        ladder.latest(entries, "toy", "validation")


def test_a_torn_line_costs_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ladder, file = importlib.import_module("ladder"), tmp_path / "ledger.jsonl"
    ladder.append(file, {"a": 1})
    with file.open("a") as f:
        f.write('{"b": ')
    ladder.append(file, {"c": 3})
    assert ladder.read(file) == [{"a": 1}, {"c": 3}] and "not JSON" in capsys.readouterr().err


def test_unjudged_passages_are_gone() -> None:
    from two_towers.data import load

    data = load("sample")
    less = importlib.import_module("ladder").unjudged(data, "test")
    judged = {d for grades in data.qrels["test"].values() for d in grades}
    assert not judged & set(less.corpus) and len(less.corpus) + len(judged) == len(data.corpus)
    assert "test" not in less.qrels and all(d in less.corpus for q in less.qrels["train"].values() for d in q)
    assert less.fingerprint != data.fingerprint


def test_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from two_towers.data import load
    from two_towers.metrics import write_run

    data, run = load("sample"), tmp_path / "perfect.trec"
    write_run({q: {d: float(g) for d, g in grades.items()} for q, grades in data.qrels["test"].items()}, run)
    results = importlib.import_module("results")
    lines = results.collection(data, 1, True, run)
    assert [e["rung"] for e in lines] == ["chance", "bm25", "run", "model", "hybrid", "unjudged"]
    assert lines[2]["metrics"]["MRR@10"] == 1.0 and 0 <= lines[4]["against_bm25"]["p"] <= 1
    call("results", "--data", "sample", "--quick", "--seeds", 1, "--ledger", tmp_path / "r.jsonl", monkeypatch=monkeypatch)
    table = capsys.readouterr().out
    assert all(f"| {title}" in table for title in ("chance", "BM25", "towers", "hybrid", "towers made without"))
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(("name", "argv", "why"), [
    ("ladder", ["--data", "nowhere"], "nowhere"),
    ("ladder", ["--plot", "x.png", "--ledger", "nowhere.jsonl"], "no such ledger"),
    ("ladder", ["--seeds", "0"], "at least 1"),
    ("results", ["--bm25-run", "x"], "without --folder"),
    ("pretraining", ["--seeds", "0"], "at least 1"),
])
def test_bad_input_gets_one_line(name: str, argv: list[str], why: str, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    ladder = importlib.import_module("ladder")
    with pytest.raises(SystemExit) as stopped:
        ladder.guarded(lambda: call(name, *argv, monkeypatch=monkeypatch))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and why in error and error.count("\n") == 1


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from two_towers.sample import ROWS

    file, out = tmp_path / "forty.jsonl", tmp_path / "made" / "rows.json"
    file.write_text("".join(json.dumps(row) + "\n" for _, row in ROWS), encoding="utf-8")
    call("rows", "--rows", file, "--data", "sample", "--out", out, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert list(found) == ["forty", "sample"] and json.loads(capsys.readouterr().out) == found
    assert found["forty"]["flags"] == {"one": 36, "several": 2, "none": 1, "no flags": 1} and found["sample"]["rows"] == 38
    assert found["sample"]["answers"]["queries"] > 30 and found["sample"]["leakage"]["queries"]["same"] == 0
    file.write_text(json.dumps({**ROWS[0][1], "passages": {"is_selected": [], "passage_text": ["a"]}}), encoding="utf-8")
    call("rows", "--rows", file, "--out", out, monkeypatch=monkeypatch)
    assert json.loads(out.read_text(encoding="utf-8")) == {"forty": {"rows": 1, "flags": {"no flags": 1}}}
    with pytest.raises(SystemExit):
        call("rows", monkeypatch=monkeypatch)


def test_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "choices.json"
    call("choices", "--data", "sample", "--quick", "--seeds", 1, "--out", out, monkeypatch=monkeypatch)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == len(capsys.readouterr().out.splitlines()) == 10 and list(rows)[:3] == ["chance", "BM25", "untrained"]
    for seeds in rows.values():
        low, high = seeds[0]["corpus"]["MRR@10"]["ci"]
        assert len(seeds) == 1 and 0 <= low <= seeds[0]["corpus"]["MRR@10"]["mean"] <= high <= 1


def test_avgpool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    avgpool, out = importlib.import_module("avgpool"), tmp_path / "avgpool.json"
    rows = [name for name in avgpool.ROWS if "GloVe" not in name]  # GloVe is an extra
    argv = ["--data", "sample", "--quick", "--seeds", 2, "--out", out, "--rows", *rows]
    call("avgpool", *argv, monkeypatch=monkeypatch)
    entries = json.loads(out.read_text())["rows"]
    assert [e["row"] for e in entries] == ["chance", "bm25", *rows]
    for e in entries:
        found = e["test"]["MRR@10"]
        assert found["ci"][0] <= found["value"] <= found["ci"][1] and e["test"]["queries"] == 8 and e["corpus_size"] == 50
        if e["row"] not in ("chance", "bm25"):
            assert len(found["seeds"]) == 2 == len(e["processor_seconds"]) and abs(sum(found["seeds"]) / 2 - found["value"]) < 1e-3
            assert ("p" in found) == (e["row"] != "base")
    call("avgpool", "--data", "sample", "--quick", "--seeds", 1, "--out", out, "--rows", "plain mean", monkeypatch=monkeypatch)
    again = json.loads(out.read_text())["rows"]
    assert sorted(e["row"] for e in again) == sorted(e["row"] for e in entries)  # measured anew, in its place
    assert capsys.readouterr().out.count("| sample: 50 documents, 8 test queries |") == 2 * len(entries)


def test_recurrent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = tmp_path / "rnn.json", ["gru", "bigru", "gru, shuffled"]
    argv = ["--data", "sample", "--dim", 8, "--words", 16, "--epochs", 1, "--pretrain-epochs", 1, "--ledger", out, "--rows", *rows]
    call("recurrent", *argv, monkeypatch=monkeypatch)
    entries = json.loads(out.read_text())
    assert [e["row"] for e in entries] == ["avgpool", *rows]
    for e in entries:
        assert e["test"]["queries"] == 8 and 0 < e["test"]["MRR@10"] <= 1 and e["documents_per_second"] > 0
        assert ("against_avgpool" in e["test"]) == (e["row"] != "avgpool") == (e["recurrent_parameters"] > 0)
    call("recurrent", *argv, monkeypatch=monkeypatch)
    assert len(json.loads(out.read_text())) == len(entries)


def test_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, argv = tmp_path / "made" / "pretraining.json", ["--data", "sample", "--quick", "--seeds", 2, "--values", tmp_path / "v"]
    call("pretraining", *argv, "--out", out, monkeypatch=monkeypatch)
    made = json.loads(out.read_text(encoding="utf-8"))
    rows = {(e["part"], e["row"], e["labels"], e["split"]): e for e in made["rows"]}
    assert len(rows) == len(made["rows"]) == len(capsys.readouterr().out.splitlines()) - 2
    parts = [e["part"] for e in made["rows"]]
    assert {part: parts.count(part) for part in set(parts)} == {"settings": 11, "labels": 4 + 2 * (3 + 3 + 2) + 4 * 3 + 1, "easy": 5}
    for e in made["rows"]:
        assert all(0 <= low <= value <= high <= 1 for value, low, high in e["values"].values())
        assert e["seeds"] == len(e["each"]) == (1 if e["row"] in ("chance", "bm25") else 2)
        assert abs(sum(e["each"]) / len(e["each"]) - e["values"][e["metric"]][0]) < 2e-4
        for other in e.get("against", {}).values():
            assert all(low <= diff <= high and 0 < p <= 1 for diff, low, high, p in other.values())
    whole, unseen = rows["labels", "cloze, whole", 8, "test"], rows["labels", "cloze, unseen test", 8, "test"]
    base = rows["labels", "none, whole", 8, "test"]
    assert abs(whole["against"]["none"]["MRR@10"][0] - whole["values"]["MRR@10"][0] + base["values"]["MRR@10"][0]) < 2e-4
    assert unseen["passages"] < whole["passages"] == made["about"]["sample"]["corpus_size"] and set(unseen["against"]) == {"none", "seen"}
    bm25 = rows["labels", "bm25", 0, "test"]["values"]["MRR@10"][0]
    assert set(whole["against"]) == {"none", "bm25"} and set(base["against"]) == {"bm25"}
    assert abs(whole["against"]["bm25"]["MRR@10"][0] - whole["values"]["MRR@10"][0] + bm25) < 2e-4
    without, every = rows["labels", "cloze, whole", 0, "test"], rows["labels", "none, whole", "all", "test"]
    diff = without["values"]["MRR@10"][0] - every["values"]["MRR@10"][0]
    assert abs(without["against"]["all labels"]["MRR@10"][0] - diff) < 2e-4
    assert set(rows["labels", "cloze, whole, not mixed", 8, "test"]["against"]) == {"none", "mixed"}
    settings = rows["settings", "span 6-24, keep 0.1, epochs 8", 0, "validation"]  # the same model, not trained twice
    assert settings["values"] == rows["labels", "cloze, whole", 0, "validation"]["values"] and settings["setting"]["keep"] == 0.1
    easy = rows["easy", "plain", "all", "validation"]
    assert len(easy["losses"]) == 2 and len(easy["curve"]["train"]) == len(easy["curve"]["validation"]) == 3
    assert all(inside >= outside for _, inside, outside, *_ in easy["curve"]["validation"])  # a batch is easier than the corpus

    before = out.read_text(encoding="utf-8")
    module = importlib.import_module("pretraining")
    monkeypatch.setattr(module.Bench, "keep", lambda self, key, *_, **__: pytest.fail(f"measured again: {key}"))
    call("pretraining", *argv, "--out", out, monkeypatch=monkeypatch)
    assert out.read_text(encoding="utf-8") == before
    one = next(path for path in sorted((tmp_path / "v").iterdir()) if "seed=1" in path.name and "part=easy" in path.name)
    one.unlink()  # as if it had been cut off there: what is there is drawn
    call("pretraining", *argv, "--out", out, "--draw", monkeypatch=monkeypatch)
    seeds = [e["seeds"] for e in json.loads(out.read_text(encoding="utf-8"))["rows"] if e["part"] == "easy"]
    assert sorted(seeds) == [1, 2, 2, 2, 2]


def test_few_labels_take_as_many_steps() -> None:
    import numpy as np

    pretraining = importlib.import_module("pretraining")
    from two_towers.data import load

    train, model = load("sample").train, importlib.import_module("two_towers.towers").DualEncoder.for_corpus(load("sample"), dim=4)
    pairs = train.pairs(model.tokens)
    for batch in (4, 9, 1000):
        longer = pretraining.Longer(pairs, batch, 25)
        steps = len(list(longer.epoch(batch, np.random.default_rng(0))))
        once = len(list(pairs.epoch(batch, np.random.default_rng(0))))
        assert 25 <= steps < 25 + once and len(longer) // batch == steps


def test_approximate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    approximate, out = importlib.import_module("approximate"), tmp_path / "approximate.json"
    argv = ["--data", "sample", "--sizes", 300, 200, "--dim", 16, "--queries", 9, "--span", 3, 12, "--out", out]
    call("approximate", *argv, monkeypatch=monkeypatch)
    sizes = json.loads(out.read_text())["sizes"]
    assert [s["documents"] for s in sizes] == [200, 300] and all(s["queries"] == 9 for s in sizes)
    for s in sizes:
        kinds = [p["kind"] for p in s["points"]]
        assert list(dict.fromkeys(kinds)) == ["exact", *approximate.SEARCHES]
        assert s["points"][0]["recall"] == 1 and s["points"][0]["times_exact"] == 1
        assert all(0 < p["recall"] <= 1 and p["queries_per_second"] > 0 for p in s["points"])
        assert next(p for p in s["points"] if p["kind"] == "ivf" and p["effort"] == 256)["recall"] > 0.9  # every drawer; ties aside
    assert capsys.readouterr().out.count("\n") == 2 + sum(len(s["points"]) for s in sizes)
    drawn = approximate.different_spans(np.array([5, 20, 2]), 100, (3, 12))
    assert len({tuple(row) for row in drawn.tolist()}) == 100 and set(drawn[:, 0]) <= {0, 1}
    with pytest.raises(ValueError, match="only .* different spans of 3 to 12 words, 10,000 are asked for"):
        approximate.different_spans(np.array([5, 20, 2]), 10_000, (3, 12))


def test_negatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, negatives = tmp_path / "made" / "negatives.json", importlib.import_module("negatives")
    few = ["in-batch 255", "in-batch + 1 BM25", "in-batch + 1 mined 1", "in-batch + 1 mined 2, filtered", "random 7", "in-batch 7"]
    argv = ["--data", "sample", "--quick", "--seeds", 2, "--values", tmp_path / "v", "--out", out, "--rows", *few]
    call("negatives", *argv, monkeypatch=monkeypatch)
    made = json.loads(out.read_text(encoding="utf-8"))
    rows = {(e["start"], e["row"]): e for e in made["rows"]}
    fused = [f"{row}; {how}" for row in negatives.HYBRIDS for how in negatives.FUSED]
    names = ["chance", "bm25", *few]
    assert list(rows) == [("none", n) for n in names] + [("ict", n) for n in (*few, *fused)]
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)
    for e in rows.values():
        assert e["seeds"] == (1 if e["row"] in ("chance", "bm25") else 2)
        for split in ("validation", "test"):
            for m in negatives.METRICS:
                f = e[split][m]
                assert 0 <= f["ci"][0] <= f["value"] <= f["ci"][1] <= 1 and abs(sum(f["each"]) / len(f["each"]) - f["value"]) < 2e-4
    base, hard = rows["ict", "in-batch 255"]["test"], rows["ict", "in-batch + 1 BM25"]["test"]
    assert abs(hard["against"]["base"]["MRR@10"]["diff"] - hard["MRR@10"]["value"] + base["MRR@10"]["value"]) < 2e-4
    assert sum(b["queries"] for b in hard["by BM25"]) == hard["queries"] == 8 and "against" not in base
    assert [len(bins) for bins in made["facts"]["sample"].values()] == [4, 4, 4]
    for mined in (tmp_path / "v").glob("sample.ict.mined-*.hard.json"):
        assert json.loads(mined.read_text())["fingerprint"] == made["about"]["sample"]["fingerprint"]

    before = out.read_text(encoding="utf-8")
    monkeypatch.setattr(negatives.Bench, "keep", lambda self, key, *_, **__: pytest.fail(f"measured again: {key}"))
    call("negatives", *argv, monkeypatch=monkeypatch)
    assert out.read_text(encoding="utf-8") == before
    for path in [p for p in (tmp_path / "v").glob("*.npz") if "seed=1" in p.name and "start=none" in p.name]:
        path.unlink()  # as if it had been cut off there
    call("negatives", *argv, "--draw", monkeypatch=monkeypatch)
    seeds = {(e["start"], e["row"]): e["seeds"] for e in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert seeds["none", "random 7"] == 1 and seeds["ict", "random 7"] == 2


def test_distillation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A tiny encoder teaches for an epoch; asked again, nothing is learned or read by the teacher a second time."""
    pytest.importorskip("transformers", reason="needs pip install 'two_towers[pretrained]'")
    from test_pretrained import tiny_encoder

    teacher, out = tiny_encoder(tmp_path / "teacher", layers=1), tmp_path / "made" / "distillation.json"
    argv = ["--data", "sample", "--model", teacher, "--quick", "--alike", 1, "--epochs", 1, "--hidden", 16, "--batch", 16,
            "--values", tmp_path / "v", "--out", out]
    call("distillation", *argv, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert list(found["splits"]) == ["validation", "test"] and found["corpus_size"] == 50
    for split in found["splits"].values():
        rows = split["rows"]
        assert {"chance", "bm25", "teacher", "taught, alike", "taught, apart", "taught, ranking", "from scratch"} <= set(rows)
        for row in rows.values():
            for f in (row[m] for m in ("MRR@10", "nDCG@10")):
                assert 0 <= f["ci"][0] <= f["value"] <= f["ci"][1] <= 1
        assert rows["chance"]["nDCG@10"]["value"] < rows["bm25"]["nDCG@10"]["value"] and "bm25" in rows["teacher"]["against"]
    assert {"share", "loss", "agreement"} <= set(found["about"]["taught, ranking"])
    said = capsys.readouterr().out
    assert "taught, ranking" in said and said.count("\ncuts2-") + said.startswith("cuts2-") == 3  # an epoch of each kind
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "v" / "teacher").rglob("*") if p.is_file()}
    call("distillation", *argv, monkeypatch=monkeypatch)
    again = json.loads(out.read_text(encoding="utf-8"))
    assert "cuts2-" not in capsys.readouterr().out and again["splits"] == found["splits"]
    assert again["about"]["taught, alike"]["loss"] == found["about"]["taught, alike"]["loss"]
    assert kept and kept == {p: p.stat().st_mtime_ns for p in (tmp_path / "v" / "teacher").rglob("*") if p.is_file()}


def test_feedback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Towers are made once; the grid asks queries of rows that are in no split; RM3 against a plain loop."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from two_towers.data import load
    from two_towers.metrics import ranked
    from two_towers.sample import ROWS

    feedback, out, rows = importlib.import_module("feedback"), tmp_path / "made" / "feedback.json", tmp_path / "rows"
    rows.mkdir()
    fresh = [{**row, "query": f"{row['query']} again"} for _, row in ROWS[:6] if any(row["passages"]["is_selected"])]
    for name in feedback.ROWS:  # the same rows twice, and one that a split holds: asked once, and not at all
        pq.write_table(pa.Table.from_pylist([*fresh, ROWS[0][1]]), rows / f"{name}.parquet")
    argv = ["--data", "sample", "--quick", "--seeds", 2, "--values", tmp_path / "v", "--out", out]
    call("feedback", *argv, "--rows-folder", rows, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf-8"))["sample"]
    assert list(found["rows"])[:6] == ["chance", "bm25", "bm25 + RM3", "towers", "hybrid", "towers, fed by their own best"]
    assert len(found["rows"]) == 15 and found["corpus_size"] == 50 and str(tmp_path) not in out.read_text(encoding="utf-8")
    for row, e in found["rows"].items():
        assert e["seeds"] == (2 if "towers" in row or row == "hybrid" else 1)
        assert set(e["against"]) == (set() if row == "chance" else {"bm25", "towers", "hybrid"} - {row})
        for m in feedback.METRICS:
            assert 0 <= e[m]["ci"][0] <= e[m]["value"] <= e[m]["ci"][1] <= 1
        for other, c in e["against"].items():
            assert abs(c["nDCG@10"]["diff"] - e["nDCG@10"]["value"] + found["rows"][other]["nDCG@10"]["value"]) < 2e-4
    grid = found["grid"]
    assert grid["queries"] == len(fresh) and grid["corpus_size"] == 50 and grid["metric"] == "nDCG@10"
    assert [(t["keep"], t["weight"]) for t in grid["tried"]] == list(feedback.GRID)

    monkeypatch.setattr("two_towers.recipe.train_model", lambda *_, **__: pytest.fail("trained again"))
    call("feedback", *argv, monkeypatch=monkeypatch)
    again = json.loads(out.read_text(encoding="utf-8"))["sample"]
    assert again["rows"] == found["rows"] and again["grid"] == grid and "| bm25 + RM3 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        importlib.import_module("ladder").guarded(lambda: call("feedback", "--seeds", 0, monkeypatch=monkeypatch))

    split = load("sample").test
    model = feedback.towers(split.collection, 0, True, next((tmp_path / "v").iterdir()) / "towers-0")
    run = feedback.rm3(model, split, 0.9, 0.4, documents=2, terms=3)
    tokens, ids = model.lexical_tokens(split.corpus), list(split.corpus)
    bm25 = importlib.import_module("two_towers.lexical").BM25(tokens, ids, model.tokenizer.vocab_size, 0.9, 0.4)
    often = {w for w in range(2, model.tokenizer.vocab_size) if sum(w in tokens.row(i) for i in range(50)) > 5} | {0, 1}

    def top(words: dict[int, float]) -> dict[int, float]:
        best = sorted(words, key=lambda w: (-words[w], w))[:3]
        return {w: words[w] / sum(words[v] for v in best) for w in best}

    for q, text in split.queries.items():
        asked, fed = model.lexical_tokens([text]).row(0).tolist(), {}
        scores = bm25.scores(asked)
        for i in sorted(range(50), key=lambda i: (scores[i], ids[i]), reverse=True)[:2]:
            some = [w for w in tokens.row(i).tolist() if w not in often]
            for w, share in top({w: some.count(w) for w in some}).items():
                fed[w] = fed.get(w, 0) + scores[i] * share
        wanted = sum(0.5 / len(asked) * bm25.scores([w]) for w in asked) + sum(0.5 * x * bm25.scores([w]) for w, x in top(fed).items())
        assert set(run[q]) == {d for d, x in zip(ids, wanted, strict=True) if x > 0} and ranked(run[q])
        assert all(abs(run[q][d] - x) < 1e-5 for d, x in zip(ids, wanted, strict=True) if x > 0)


def test_recommend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "made" / "recommend.json"
    call("recommend", "--quick", "--seeds", 2, "--parts", 1, "--draws", 1, "--out", out, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf-8"))
    names = list(found["rows"])
    assert names[:2] == ["chance (exact)", "popularity"] and [n for n in names if n.startswith("towers")] == list(
        importlib.import_module("recommend").VARIANTS)
    for row in (*found["rows"].values(), *found["cold"]["rows"].values()):
        mean, low, high = row["Recall@10"]
        assert 0 <= low <= mean <= high <= 1
    assert len(found["rows"]["towers, corrected"]["seeds"]) == 2 and len(found["rows"]["towers, ids only"]["seeds"]) == 1
    assert all(0 < c["p"] <= 1 for c in found["compared"].values())
    with pytest.raises(SystemExit):
        call("recommend", "--seeds", 0, monkeypatch=monkeypatch)


def test_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from two_towers.data import load
    from two_towers.towers import DualEncoder

    class Short:
        """Short texts first; counts what it was asked."""

        asked = 0

        def score(self, query: str, texts: list[str]) -> np.ndarray:
            self.asked += len(texts)
            return -np.array([len(t) for t in texts], float)

    DualEncoder.for_corpus(load("sample"), dim=16, progress=False).save(tmp_path / "m")
    stages, out, ranker = importlib.import_module("stages"), tmp_path / "made" / "stages.json", Short()
    monkeypatch.setattr(stages, "open_ranker", lambda folder: ranker)
    call("stages", "--data", "sample", "--model", tmp_path / "m", "--ranker", "any", "--rerank", 10, "--depths", 20, 5, "--timed", 3,
         "--out", out, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf-8"))
    names = ["chance", "BM25", "towers", "both", "(a perfect order of 10)", "re-ranked", "shown"]
    assert [r["stage"] for r in found["trace"]["rows"]] == names and found["trace"]["timed"] == 3
    assert [d["depth"] for d in found["depths"]] == [5, 20] and found["weight"] in (1.0, 0.5, 0.3, 0.1)
    at = {r["stage"]: r["value"] for r in found["trace"]["rows"]}
    assert abs(found["gain"]["diff"] - at["re-ranked"] + at["both"]) < 1e-9 and found["recalled"] == at["both"]
    for d in found["depths"]:
        assert all(value <= d["perfect"] for value in d["weights"].values()) and d["ms"] > 0
    queries, validation = found["trace"]["queries"], len(load("sample").validation)
    assert ranker.asked == 10 * (validation + queries + 1) + 10 * queries  # once, the first on the clock twice, 10 to 20 once more
    assert "re-ranked" in capsys.readouterr().out


def test_rerank_and_what_the_ladder_takes_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers and halves are made once; the ladder gets one line for each seed of the reader, and no second time."""
    from dataclasses import replace

    from two_towers.rerank import CrossEncoder

    out, ladder, rerank = tmp_path / "m" / "rerank.json", importlib.import_module("ladder"), importlib.import_module("rerank")
    monkeypatch.setattr(rerank, "R", replace(rerank.R, dim=8, lexical=16, pretrain_epochs=1, epochs=1))
    options = ("--data", "sample", "--seeds", 2, "--traps", "--values", tmp_path / "v", "--model", tmp_path / "reader", "--out", out)
    call("rerank", *options, monkeypatch=monkeypatch)
    found = json.loads(out.read_text(encoding="utf8"))["sample"]
    assert sorted(found["rows"]) == ["gives the answer away 0", "knrm 0", "reader 0", "reader 1", "towers know the answers 0"]
    best = found["plain"]["perfect order of these"]["value"]
    assert all(0 <= r["alone"]["value"] <= best and r["share"] in rerank.SHARES for r in found["rows"].values())
    assert found["plain"]["chance"]["value"] < found["plain"]["hybrid"]["value"]
    assert CrossEncoder.load(tmp_path / "reader").score("bees", ["bees", "ships"]).shape == (2,)
    monkeypatch.setattr(ladder, "MEASURED", out.parent)
    ledger = tmp_path / "ladder.jsonl"
    ledger.write_text("")
    for _ in range(2):
        call("ladder", "--collect", "--ledger", ledger, monkeypatch=monkeypatch)
        assert [(e["rung"], e["seed"]) for e in ladder.read(ledger)] == [("rerank", 0), ("rerank", 1)]
    assert ladder.plot(ladder.read(ledger), "sample", "test").axes
