"""The command line as a stranger meets it: bad input, broken folders, full disks, kills, closed pipes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from two_towers.cli import main
from two_towers.recipe import TEMPORARY, check_folder, locked

SMALL = ("--data", "sample", "--dim", "8", "--batch", "16", "--epochs", "2")
REAL = (sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())")


def run(*argv: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error of one command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in argv])
    return code, out.getvalue(), err.getvalue()


def refused(*argv: object, why: str) -> None:
    """Exit status 2, and one line that says why."""
    code, out, err = run(*argv)
    assert (code, out) == (2, ""), (code, out, err)
    assert err.count("\n") == 1 and err.startswith("two-towers: ") and why in err, err


def forked(function: Callable[[], Any]) -> tuple[int | None, Any]:
    """Exit code and result of a function in a process of its own: one that may be killed or limited."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def body() -> None:
        torch.set_num_threads(1)  # threads do not survive a fork
        there.send(function())

    process = context.Process(target=body)
    process.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        result = None
    process.join()
    return process.exitcode, result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sample"
    assert run("train", "--out", folder, *SMALL)[0] == 0
    return folder


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """One judged query, so no validation split and no early stop."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i}", "title": "", "text": f"document number {i} tells of the letter {'abcdefgh'[i]} " * 5} for i in range(8)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf8")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "letter c"}\n', encoding="utf8")
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td2\t1\n", encoding="utf8")
    return folder


# --- data


def test_missing_folders(tmp_path: Path, model: Path) -> None:
    nowhere = tmp_path / "nowhere"
    refused("data", nowhere, why="nowhere")
    refused("train", "--data", nowhere, "--out", tmp_path / "m", why="nowhere")
    refused("evaluate", nowhere, "--data", "sample", why="nowhere")
    refused("evaluate", model, "--data", nowhere, why="nowhere")
    refused("search", nowhere, "tea", why="nowhere")
    refused("runs", nowhere, why="no such folder")
    refused("score", nowhere, nowhere, why="nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("corpus.jsonl", '{"_id": "d2", "text": "a"}\n{"_id": "d2", "text": "b"}\n', "line 2: id 'd2' for the second time"),
        ("corpus.jsonl", "", "empty"),
        ("corpus.jsonl", '{"_id": "d2", "text": "a"}\n{"_id": "d3", "text"\n', "corpus.jsonl, line 2: not JSON"),
        ("corpus.jsonl", '{"_id": "x", "text": "a"}\n', "no judgement is left"),
        ("queries.jsonl", "[1]\n", "queries.jsonl, line 1"),
        ("qrels/train.tsv", "q\td2\tmany\n", "train.tsv, line 1"),
        ("qrels/train.tsv", "", "no judgement is left"),
    ],
)
def test_broken_beir_folders(beir: Path, tmp_path: Path, name: str, text: str, why: str) -> None:
    (beir / name).write_text(text, encoding="utf8")
    refused("data", beir, why=why)
    refused("train", "--data", beir, "--out", tmp_path / "m", why=why)
    assert not (tmp_path / "m").exists()


def test_unknown_documents_in_qrels_are_counted_and_dropped(beir: Path) -> None:
    with (beir / "qrels" / "train.tsv").open("a", encoding="utf8") as f:
        f.write("q\tghost\t1\n")
    code, out, err = run("data", beir)
    assert code == 0 and "1 judgements of documents that are not in the corpus, dropped (ghost)" in out
    assert err.startswith("two-towers: note: ") and "ghost" in err


def test_a_parquet_that_is_no_ms_marco(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"query": ["a"], "answers": [["b"]]}), path)
    refused("data", path, why="passages")
    passages = [{"is_selected": [0], "passage_text": ["a b c"], "url": [""]}]
    pq.write_table(pa.table({"query": ["a"], "query_id": [1], "query_type": [""], "answers": [["b"]], "passages": passages}), path)
    refused("data", path, why="no usable row")
    path.write_bytes(path.read_bytes()[:-20])
    refused("data", path, why="parquet")


# --- settings


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--margin", "-0.1", "margin -0.1"),
        ("--margin", "nan", "margin nan"),
        ("--temperature", "0", "temperature 0.0"),
        ("--lr", "0", "lr 0.0"),
        ("--epochs", "0", "epochs 0"),
        ("--batch", "0", "batch 0"),
        ("--dim", "0", "dim 0"),
        ("--dim", "many", "got 'many'"),
        ("--seed", "-1", "seed -1"),
        ("--limit", "0", "limit 0"),
        ("--tower", "pretrained", "tower 'pretrained' needs a model"),
        ("--tower", "babel", "unknown tower 'babel'"),
        ("--vectors", "no.txt", "no such file"),
        ("--loss", "margin-mse", "loss 'margin-mse' a teacher"),
        ("--pretrain", "teacher", "only loss 'margin-mse' has a teacher"),
        ("--negatives", "hard", "unknown negatives 'hard'"),
        ("--positives", "some", "unknown positives 'some'"),
        ("--pretrain", "bert", "unknown pretrain 'bert'"),
        ("--model", "minilm", "no other tower takes one"),
        ("--mergin", "1", "--mergin"),
    ],
)
def test_settings_are_refused_before_anything_is_read(tmp_path: Path, option: str, value: str, why: str) -> None:
    refused("train", "--data", tmp_path / "no data", "--out", tmp_path / "m", option, value, why=why)
    assert not list(tmp_path.iterdir())


def test_all_positives_need_rows(beir: Path, tmp_path: Path) -> None:
    refused("train", "--data", beir, "--out", tmp_path / "m", "--positives", "all", "--pretrain", "none", why="positives='all'")
    assert not (tmp_path / "m").exists()


# --- a model's folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_holds_what_the_contract_says(model: Path) -> None:
    names = {p.name for p in model.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors", "index", "metrics.jsonl", "report.md"} <= names
    assert names <= {"config.json", "tokenizer.json", "model.safetensors", "index", "metrics.jsonl", "report.md", "report.png", "tensorboard"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "index/about.json", "index/documents.jsonl"])
def test_missing_truncated_and_foreign_files(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).unlink()
    refused("search", copy, "tea", why=Path(name).name)
    for harm in (whole[:-3], b"", b"\x93NUMPY foreign", b"{}"):
        (copy / name).write_bytes(harm)
        refused("search", copy, "tea", why=Path(name).name)
        if not name.startswith("index"):
            refused("evaluate", copy, "--data", "sample", why=Path(name).name)
    (copy / name).write_bytes(whole)
    assert run("search", copy, "tea")[0] == 0


def test_an_index_of_another_model(copy: Path, tmp_path: Path) -> None:
    assert run("train", "--out", tmp_path / "other", *SMALL, "--seed", "1")[0] == 0
    shutil.rmtree(copy / "index")
    refused("search", copy, "tea", why="no index there")
    shutil.copytree(tmp_path / "other" / "index", copy / "index")
    refused("search", copy, "tea", why="built by another model")


def test_queries_that_are_none(model: Path) -> None:
    for query, why in {"": "is empty", "  ": "is empty", "🙂👍🏽": "no word", "❤️": "no word", "a " * 100_000: "100,000 words"}.items():
        refused("search", model, query, why=why)
    refused("search", model, "tea", "-k", "0", why="-k 0")
    refused("search", model, "tea", "-k", "-1", why="-k -1")
    refused("search", model, "tea", "--by", "magic", why="magic")
    refused("search", model, why="Missing argument")


def test_odd_queries_that_are_some(model: Path) -> None:
    for query in ("tea", "日本 tea", "C++", "naïve \ud800 tea", "tea" * 50_000, "-- tea"):
        code, out, err = run("search", model, "--json", "-k", "3", "--", query)
        assert code == 0 and len(json.loads(out)["hits"]) == 3 and json.loads(out)["query"] == query, err
    code, out, err = run("search", model, "tea", "-k", "999", "--json")
    assert code == 0 and len(json.loads(out)["hits"]) == 50 and err.count("\n") == 1 and "note: k=999" in err
    assert "no word of the query" in run("search", model, "zxqv")[2]


def test_evaluate_asks_for_what_is_there(model: Path, beir: Path, tmp_path: Path) -> None:
    refused("evaluate", model, "--data", "sample", "--split", "exam", why="no split 'exam'; it has train, validation, test")
    refused("evaluate", model, "--data", beir, why="no split 'test'")
    refused("evaluate", model, "--data", "sample", "--relevant", "0", why="--relevant 0")
    refused("evaluate", model, "--data", "sample", "--run-out", tmp_path / "no" / "run", why="does not exist")
    refused("evaluate", model, "--data", "sample", "--run-out", tmp_path, why="is a folder")
    code, out, err = run("evaluate", model, "--data", "sample", "--run-out", tmp_path / "run", "--json")
    assert code == 0 and json.loads(out)["rows"]["model"]["MRR@10"] > 0 and (tmp_path / "run").stat().st_size > 0


def test_score_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 d 1\n", encoding="utf8")
    (tmp_path / "run").write_text("q Q0 d 1 0.5 me\nq Q0 e 2 high me\n", encoding="utf8")
    refused("score", tmp_path / "run", tmp_path / "qrels", why="run, line 2")
    refused("score", tmp_path, tmp_path / "qrels", why=str(tmp_path))
    (tmp_path / "run").write_text("q Q0 ghost 1 0.7 me\nq Q0 d 2 0.5 me\n", encoding="utf8")
    code, out, err = run("score", tmp_path / "run", tmp_path / "qrels", "--json")
    value = json.loads(out)
    assert (code, err, value["metrics"]["MRR@10"], value["queries"], value["missing"]) == (0, "", 0.5, 1, 0)
    refused("score", tmp_path / "run", tmp_path / "qrels", "--relevant", "0", why="relevant")


def test_runs_lists_what_is_there(model: Path, tmp_path: Path) -> None:
    code, out, err = run("runs", tmp_path)
    assert (code, out.count("\n"), err) == (0, 1, "") and "no training there" in out
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf8")
    shutil.copytree(model, tmp_path / "whole")
    code, out, err = run("runs", tmp_path, "--sort", "hybrid:mrr@10", "--json")
    value = json.loads(out)
    assert (code, err, value["sort"]) == (0, "", "hybrid:MRR@10")
    assert [(Path(row["run"]).name, row["state"]) for row in value["runs"]] == [("whole", "finished"), ("broken", "damaged")]
    code, out, err = run("runs", tmp_path)
    assert (code, err) == (0, "") and "\n  BM25 " in out and "broken: config.json: not JSON" in out
    refused("runs", tmp_path, "--sort", "beauty", why="'beauty' to sort by; known: MRR@10")
    refused("runs", tmp_path, "--data", "pydocs", why="no training on 'pydocs'; there are:")
    refused("runs", tmp_path / "broken" / "config.json", why="is a file")


# --- training into a folder


def test_folders_that_are_not_ours_to_write(model: Path, tmp_path: Path) -> None:
    before = files(model)
    refused("train", "--out", model, *SMALL, why="finished model")
    code, out, err = run("train", "--out", model, *SMALL, "--resume", "--json")
    assert code == 0 and json.loads(out)["finished"] and files(model) == before
    (tmp_path / "thesis.tex").write_text("all my work", encoding="utf8")
    refused("train", "--out", tmp_path, *SMALL, why="thesis.tex")
    refused("train", "--out", tmp_path / "thesis.tex", *SMALL, why="is a file")
    refused("train", "--out", tmp_path / "thesis.tex" / "m", *SMALL, why="thesis.tex")
    refused("demo", "--out", tmp_path, "--data", "sample", "--fresh", why="thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_trainings_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    with locked(folder):
        refused("train", "--out", folder, *SMALL, why=f"process {os.getpid()} is training there")
    assert run("train", "--out", folder, *SMALL)[0] == 0


def test_resume_with_nothing_there(tmp_path: Path) -> None:
    code, _, err = run("train", "--out", tmp_path / "m", *SMALL, "--resume")
    assert code == 0 and "note: no checkpoint" in err


def test_killed_at_any_write_and_resumed_to_the_same_weights(model: Path, tmp_path: Path) -> None:
    def train(folder: Path, kill_at: int = 0, *more: str) -> Callable[[], int]:
        def body() -> int:
            replace, count = os.replace, iter(range(1, 1000))

            def deadly(a: Any, b: Any) -> None:
                if next(count) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                replace(a, b)

            os.replace = deadly
            return run("train", "--out", folder, *SMALL, *more)[0]

        return body

    weights = (model / "model.safetensors").read_bytes()
    killed = 0
    for moment in range(1, 60, 4):
        folder = tmp_path / str(moment)
        if forked(train(folder, moment)) == (0, 0):
            break
        killed += 1
        assert check_folder(folder, resume=True) in ("new", "unfinished")
        if not (folder / "index").exists():
            refused("search", folder, "tea", why=str(folder))
        assert forked(train(folder, 0, "--resume")) == (0, 0)
        assert (folder / "model.safetensors").read_bytes() == weights
        assert {p.name for p in folder.iterdir()} == {p.name for p in model.iterdir()}
    assert killed >= 4


def test_a_full_disk_leaves_nothing_half_written(model: Path, tmp_path: Path) -> None:
    def limited(folder: Path, size: int) -> Callable[[], tuple[int, str, str]]:
        def body() -> tuple[int, str, str]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))  # a write beyond it fails, as on a full disk
            return run("train", "--out", folder, *SMALL)

        return body

    sizes = sorted({0, *(len(b) - 1 for name, b in files(model).items() if "tensorboard" not in name)})
    failed = 0
    for i, size in enumerate(sizes[:: max(1, len(sizes) // 6)]):
        folder = tmp_path / str(i)
        code, said = forked(limited(folder, size))
        assert code == 0 and said is not None
        status, _, err = said
        if status == 0:
            continue
        failed += 1
        lines = [line for line in err.splitlines() if "two-towers: note: " not in line]
        assert status == 2 and len(lines) == 1 and lines[0].startswith("two-towers: "), err
        left = {p.name for p in folder.rglob("*")} if folder.exists() else set()
        assert not [n for n in left if n.endswith("tmp")], left
        assert not folder.exists() or check_folder(folder, resume=True) == "unfinished"
        assert run("train", "--out", folder, *SMALL, "--resume")[0] == 0
        assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert failed >= 3


def test_temporary_names_are_all_known() -> None:
    assert "index.*tmp" in TEMPORARY and ".report.md.*tmp" in TEMPORARY


# --- the process


def test_ctrl_c_ends_with_130_and_can_be_gone_on_with(beir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    command = (*REAL, "train", "--data", str(beir), "--out", str(folder), "--dim", "8", "--epochs", "100000")
    # What runs in the background of a shell ignores Ctrl-C, and so do its children: this one is to hear it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert process.stdout
    for line in process.stdout:
        if line.startswith("training:"):
            break
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err and err.splitlines()[-1] == "two-towers: stopped", err
    assert check_folder(folder, resume=True) == "unfinished"
    refused("train", "--data", beir, "--out", folder, "--dim", "8", why="--resume")


def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen((*REAL, "data", "sample"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.close()
    assert process.stderr and process.stderr.read() == "" and process.wait() == 0


def test_json_is_alone_on_standard_output(tmp_path: Path) -> None:
    command = (*REAL, "demo", "--data", "sample", "--out", str(tmp_path / "demo"), "--json")
    done = subprocess.run(command, capture_output=True, text=True)
    value = json.loads(done.stdout)
    assert done.returncode == 0 and len(value["answers"]) == 3 and value["rows"]["bm25"]["MRR@10"] > 0, done.stderr
    code, out, err = run("demo", "--data", "sample", "--out", tmp_path / "demo")
    assert code == 0 and "holds a model already" in out and "Next:" in out and "test queries over 50 documents" in out


def test_a_library_that_prints_does_not_spoil_json(monkeypatch: pytest.MonkeyPatch) -> None:
    import two_towers.data as module

    load = module.load

    def noisy(*args: Any) -> Any:
        print("downloading ...")
        return load(*args)

    monkeypatch.setattr(module, "load", noisy)
    code, out, err = run("data", "sample", "--json")
    assert code == 0 and json.loads(out)["corpus_size"] == 50 and err == "downloading ...\n"


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("doctor", "--json")
    value = json.loads(out)
    assert value["ok"] is (code == 0) and {"Python", "torch"} <= {c["name"] for c in value["checks"]}
    import two_towers.doctor as module

    monkeypatch.setattr(module, "doctor", lambda: print("[FAIL] disk: full"))
    code, out, err = run("doctor")
    assert (code, out, err) == (1, "[FAIL] disk: full\n", "")
