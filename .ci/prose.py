"""Links, spelling and citations of what is read: README.md, the workshop's papers, all notebooks. `.ci/prose.py [ROOT]`.

A line for each finding. Links lead to a file and, where they name one, a heading. Spelling is codespell's list of known typing
errors, over Markdown, comments and docstrings. What is listed under "Further reading" or "Read on" names authors and a year,
and a work that is mentioned as (Author et al. 2020) is listed there by some notebook.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

CODE = re.compile(r"(?s)```.*?```|`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|<(?:a|img)\s[^>]*?(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"(?m)^#{1,6} +(.+?)\s*$")
READING = re.compile(r"(?im)^(?:#+ *|\*\*)(?:further reading|read on)\b[.:]?(?:\*\*)?:?")
YEAR = r"(?:1[89]|20)\d\d"
NAME = r"[A-ZÄÖÜÉ][\w'’-]*[a-zà-ÿ][\w'’-]*"
MENTION = re.compile(rf"({NAME})((?:, {NAME})*,? (?:and|&) {NAME}| et al\.?)?,? \(?({YEAR})\b")
ALONE = re.compile(rf"\(({NAME})()(?:,)? ({YEAR})\)")  # one author: only in brackets, or every month would be one
# (words of an entry or a mention, why it stays)
EXCEPTIONS = (
    ("Mining of Massive Datasets", "a book in several editions; year not verified here"),
    ("trec_eval", "a program's own documentation"),
    ("Encoding Standard", "a living standard, without authors or a year"),
    ("CommonMark", "a living standard"),
    ("Parsing HTML documents", "a living standard"),
    ("the standards that the page rests on", "living standards"),
    ("the documentation of", "a program's own documentation"),
    ("documentation of model cards", "a site's own documentation"),
    ("in the manual of your system", "a manual"),
    ("safetensors format", "a format's own page"),
    ("ONNX operator schemas", "a format's own page"),
    ("Fetch standard", "a living standard"),
    ("Mu and Viswanath 2018", "named with its title where it is tried; not verified here"),
)


def texts(root: Path) -> Iterator[tuple[str, str, str]]:
    """(file, where in it, Markdown or Python) for everything that is read."""
    for path in [root / "README.md", *sorted((root / "exercises/workshop").glob("*.md"))]:
        if path.exists():
            yield path.relative_to(root).as_posix(), "", path.read_text(encoding="utf-8")
    for path in sorted(p for top in ("nbs", "exercises") for p in (root / top).rglob("[!._]*.ipynb")):
        if ".ipynb_checkpoints" in path.parts or ".backup" in path.name:
            continue
        for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            yield path.relative_to(root).as_posix(), f"{cell['cell_type']} {i}", "".join(cell["source"])


def said(where: str, text: str) -> str:
    """What of a cell is prose: all of Markdown, comments and strings of code."""
    if not where.startswith("code"):
        return text
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError):  # a cell for IPython: what was read up to there
        pass
    return "\n".join(found)


def anchors(path: Path) -> set[str]:
    """The headings of a page as JupyterLab and as GitHub spell them."""
    raw = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        raw = "\n".join("".join(c["source"]) for c in json.loads(raw)["cells"] if c["cell_type"] == "markdown")
    heads = [h.replace("`", "").replace("*", "") for h in HEADING.findall(raw)]
    return {h.replace(" ", "-") for h in heads} | {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


def links(root: Path) -> list[str]:
    """Relative links and pictures that lead to no file or no heading."""
    wrong = []
    for name, where, text in texts(root):
        for target in (a or b for a, b in LINK.findall("" if where.startswith("code") else CODE.sub("", text))):
            if re.match(r"[a-z]+:|//", target):
                continue
            file, _, anchor = unquote(target).partition("#")
            path = (root / name).parent / file if file else root / name
            if not path.exists():
                wrong.append(f"{name} {where}: the link {target} leads to no file")
            elif anchor and path.suffix in (".md", ".ipynb") and anchor not in anchors(path):
                wrong.append(f"{name} {where}: the link {target} leads to no heading")
    return wrong


def spelling(root: Path) -> list[str]:
    """Known typing errors; words to leave alone stand in pyproject.toml under [tool.codespell]."""
    with tempfile.TemporaryDirectory() as tmp:
        places = []
        for i, (name, where, text) in enumerate(texts(root)):
            if prose := said(where, text):
                (Path(tmp) / f"{i}.txt").write_text(prose + "\n", encoding="utf-8")
            places.append(f"{name} {where}".strip())
        command = [sys.executable, "-m", "codespell_lib", tmp]
        if (root / "pyproject.toml").exists():
            command += ["--toml", str(root / "pyproject.toml")]
        done = subprocess.run(command, cwd=tmp, capture_output=True, text=True)
    found = re.findall(r"(?m)^.*?(\d+)\.txt:\d+: (.+)$", done.stdout)
    wrong = [f"{places[int(i)]}: {what}" for i, what in found]
    return wrong or (["codespell failed: " + done.stderr.strip()] if done.returncode else [])


def entries(text: str) -> list[str]:
    """What is listed under "Further reading" or "Read on": one for each bullet, or for each work between semicolons."""
    match = READING.search(text)
    if not match:
        return []
    rest = re.split(r"(?m)^#+ |\n\s*\n\*\*", text[match.end():].strip())[0]
    if re.search(r"(?m)^- ", rest):
        return [" ".join(e.split()) for e in re.split(r"(?m)^- ", rest)[1:]]
    return [" ".join(e.split()) for e in rest.split(";") if e.strip()]


def excused(text: str) -> bool:
    """Does one of the exceptions speak of it?"""
    return any(words in text for words, _ in EXCEPTIONS)


def citations(root: Path) -> list[str]:
    """Entries without authors or a year, and mentions of works that no notebook and no README lists."""
    wrong, listed, cells = [], [], list(texts(root))
    for name, where, text in cells:
        if where.startswith("markdown"):
            for entry in entries(text):
                listed.append(entry)
                authors = re.search(NAME, entry.split("*")[0] or entry.split("*", 2)[-1])
                if not excused(entry) and not (authors and re.search(YEAR, entry)):
                    wrong.append(f"{name} {where}: names no authors or no year: {entry[:90]}")
        elif name == "README.md" and "## Cited work" in text:
            listed += re.findall(r"(?m)^- (.+)$", text.split("## Cited work")[1])
    for name, where, text in cells:
        prose = " ".join(said(where, text).split())
        for match in [*(m for m in MENTION.finditer(prose) if m[2]), *ALONE.finditer(prose)]:
            names = re.findall(NAME, match[1] + (match[2] or ""))
            known = any(match[3] in e and all(re.search(rf"\b{re.escape(n)}\b", e) for n in names) for e in listed)
            if not known and not excused(match[0]):
                wrong.append(f"{name} {where}: {match[0]!r} is in nobody's further reading")
    return wrong


def check(root: Path) -> list[str]:
    """Everything that is wrong."""
    return links(root) + spelling(root) + citations(root)


if __name__ == "__main__":
    found = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    print("".join(line + "\n" for line in found), end="")
    sys.exit(bool(found))
