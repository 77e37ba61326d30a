"""`two-towers export` in a process of its own, and its folder in another one where this package cannot be imported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from two_towers.data import load
from two_towers.engine import build_index
from two_towers.evaluate import evaluate
from two_towers.towers import DualEncoder

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: pip install 'two_towers[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'two_towers[export]'")

MAIN = (sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())")
BLOCK = re.compile(r"^~~~python\n(.*?)^~~~$", re.MULTILINE | re.DOTALL)
ALONE = """
import json, sys
try:
    import two_towers
except ImportError:
    pass
else:
    raise SystemExit("two_towers is here: " + two_towers.__file__)
import numpy as np
from sentence_transformers import SentenceTransformer
model, texts = SentenceTransformer(sys.argv[1], trust_remote_code=True), json.load(open("texts.json"))
np.savez("found.npz", query=model.encode_query(texts), document=model.encode_document(texts))
"""
WITHOUT = "import sys; sys.modules['two_towers'] = None  # not to be imported, wherever it is installed\n"


def real(*argv: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command line."""
    done = subprocess.run([*MAIN, *map(str, argv)], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def elsewhere(place: Path, code: str, *argv: str) -> str:
    """What `code` prints in a process that starts in `place` and knows nothing of this repository. It must not fail."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HOME": str(place / "hub")}
    done = subprocess.run([sys.executable, "-I", "-c", WITHOUT + code, *argv], cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models of the sample, measured and indexed: with a sketch, without, and recurrent."""
    place, data = tmp_path_factory.mktemp("export"), load("sample")
    for name, more in (("sketch", {"hidden": (24,), "shared": False}), ("plain", {"lexical": 0}), ("gru", {"tower": "gru"})):
        model = DualEncoder.for_corpus(data, dim=16, progress=False, **{"lexical": 64} | more)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        measured = {} if name == "gru" else {"test": evaluate(model, data.test, progress=False).to_dict()}
        model.save(place / name, data="sample", fingerprint=data.fingerprint, **measured)
        build_index(model, data.corpus, place / name)
    return place


@pytest.mark.parametrize("name", ["sketch", "plain", "gru"])
def test_others_get_the_same_vectors(place: Path, name: str) -> None:
    code, told, err = real("export", place / name, "--to", place / f"{name}.v1", "--json")
    assert (code, err) == (0, ""), err
    assert json.loads(told)["kind"] == ("static" if name == "plain" else "code")
    model, texts = DualEncoder.load(place / name), list(load("sample").corpus.values())
    texts = [*texts, " ".join(texts), "zzxqj qqzv", "?! 🙂", "bread bread tea, bread", *([] if name == "plain" else ["", "kneadings"])]
    (place / "texts.json").write_text(json.dumps(texts), encoding="utf8")
    elsewhere(place, ALONE, f"{name}.v1")
    with np.load(place / "found.npz", allow_pickle=False) as found:
        for side in ("query", "document"):
            assert abs(found[side] - model.encode_texts(texts, side=side)).max() < 1e-5, side


def test_what_the_card_tells_to_type_works(place: Path) -> None:
    code, told, err = real("export", place / "sketch", "--to", place / "towers", "--onnx")
    assert code == 0 and str(place / "towers") in told, err
    card = (place / "towers" / "README.md").read_text(encoding="utf8")
    search, graph = BLOCK.findall(card)
    said = elsewhere(place, search)
    assert said.strip() in ("Sort a list by a key", "Read the lines of a file", "Open a web page"), said
    assert elsewhere(place, graph).strip() == "(1, 80)"
    test = json.loads((place / "sketch" / "config.json").read_text(encoding="utf8"))["about"]["test"]
    low, high = test["rows"]["model"]["ci"]["MRR@10"]
    assert f"{test['rows']['model']['MRR@10']:.3f} [{low:.3f}, {high:.3f}]" in card and "8 queries are few" in card
    real("export", place / "gru", "--to", place / "unmeasured")
    card = (place / "unmeasured" / "README.md").read_text(encoding="utf8")
    assert "Nothing was measured" in card and "50 documents" in card


def test_bad_input_is_one_line(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work", encoding="utf8")
    (place / "damaged").mkdir()
    for file in (place / "plain").iterdir():
        if file.is_file():
            (place / "damaged" / file.name).write_bytes(file.read_bytes()[:-1])
    before = sorted(p.name for p in place.iterdir())
    for argv, why in ((("nowhere", "--to", "x"), "no such folder"), (("plain", "--to", "mine"), "no earlier export"),
                      (("plain", "--to", "mine/thesis.txt"), "is a file"), (("damaged", "--to", "x"), "config.json"),
                      (("gru", "--to", "x", "--onnx"), "only averaged towers")):
        code, told, err = real("export", place / argv[0], "--to", place / argv[2], *argv[3:])
        assert (code, told, err.count("\n")) == (2, "", 1) and why in err, err
    assert sorted(p.name for p in place.iterdir()) == before
    assert (place / "mine" / "thesis.txt").read_text(encoding="utf8") == "years of work"


def test_a_kill_leaves_the_old_or_the_new(place: Path) -> None:
    out, rng = place / "killed" / "out", np.random.default_rng(0)
    slow = ("import sys, time, two_towers.export as e\nwrite = e._json\n"
            "def slowly(*a):\n    print('.', flush=True)\n    time.sleep(0.05)\n    write(*a)\n"
            "e._json = slowly\ne.export(*sys.argv[1:])\n")
    for part in range(1, 5):  # killed at the first, second ... file that is written in JSON
        process = subprocess.Popen([sys.executable, "-c", slow, str(place / "plain"), str(out)], stdout=subprocess.PIPE, text=True)
        for _ in range(part):
            assert process.stdout is not None and process.stdout.readline() == ".\n"
        time.sleep(float(rng.uniform(0, 0.05)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    code, _, err = real("export", place / "plain", "--to", out)
    assert code == 0, err
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # what the killed ones left is gone
