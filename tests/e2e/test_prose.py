""".ci/prose.py finds what is wrong with a text, and leaves alone what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOOD = """# Two towers

See [the start](#Two-towers) and [the other](b.ipynb#More). A colour is judged as before (Karpukhin et al. 2020); `[x](nowhere)`.

### Further reading

- V. Karpukhin et al. *Dense passage retrieval.* EMNLP 2020.
- The CommonMark specification."""


def found(root: Path, text: str, code: str = "1") -> list[str]:
    (root / "nbs").mkdir(exist_ok=True)
    for name, source in (("a", text), ("b", "## More")):
        cells = [{"cell_type": "markdown", "source": [source]}, {"cell_type": "code", "source": [code]}]
        (root / f"nbs/{name}.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    command = [sys.executable, ROOT / ".ci/prose.py", root]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == bool(done.stdout.strip()) and not done.stderr
    return done.stdout.splitlines()


def test_good_prose_passes(tmp_path: Path) -> None:
    assert not found(tmp_path, GOOD)


def test_a_link_to_no_file_and_to_no_heading(tmp_path: Path) -> None:
    assert "c.ipynb leads to no file" in found(tmp_path, GOOD.replace("b.ipynb#More", "c.ipynb"))[0]
    assert "b.ipynb#Less leads to no heading" in found(tmp_path, GOOD.replace("#More", "#Less"))[0]
    assert "p.png leads to no file" in found(tmp_path, GOOD.replace("See", "![a picture](p.png)"))[0]


def test_a_typing_error_in_text_and_in_a_comment_but_not_in_a_name(tmp_path: Path) -> None:
    assert "nbs/a.ipynb markdown 0: teh" in found(tmp_path, GOOD.replace("See", "See teh"))[0]
    assert "code 1: recieve" in found(tmp_path, GOOD, "x = 1  # we recieve")[0]
    assert not found(tmp_path, GOOD, "recieve = 1")


def test_citations(tmp_path: Path) -> None:
    for mention in ("(Nobody et al. 2020)", "(Karpukhin et al. 2019)", "(Nobody and Somebody, 2020)", "(Nobody 2020)"):
        said = found(tmp_path, GOOD.replace("(Karpukhin et al. 2020)", mention))
        assert len(said) == 1 and "in nobody's further reading" in said[0]
    assert "no year" in found(tmp_path, GOOD.replace("EMNLP 2020", "EMNLP").replace("(Karpukhin et al. 2020)", ""))[0]
    assert "Nobody" in found(tmp_path, GOOD, '"""As in Nobody et al. (2020)."""')[0]
