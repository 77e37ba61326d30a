"""The course as a folder of web pages: `.ci/make_site.py [--to FOLDER] [NOTEBOOK...]`, by default all of it into _site/.

Pages stand where the notebooks stand, README.md is index.html. Stored outputs are shown as they are, nothing is run. Pages take
nothing from outside: formulas are MathML, pictures lie inside, and a page that names an asset elsewhere is an error.
"""

from __future__ import annotations

import argparse
import ast
import html
import json
import os
import posixpath
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from clean import without_widgets
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
SOURCE = re.compile(r"\]\(((?:nbs|exercises)/[\w/-]+\.(?:ipynb|md))\)")  # in README.md: the pages, in the order of the course
PLUMBING = {"test": "test: ", "test_imports": "imports of the tests", "default_exp": "module: "}
ASSETS = {"src", "srcset", "poster", "data", "background"}  # attributes that a browser loads by itself; also href of <link>
ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
STYLED = re.compile(r"(?i)(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//\S*")
TEMPLATE = """{% extends 'basic/index.html.j2' %}
{% block in_prompt %}{% endblock %}{% block output_area_prompt %}{% endblock %}{% block empty_in_prompt %}{% endblock %}
{% block codecell %}{% if cell.metadata.fold %}<details class="plumbing"><summary>{{ cell.metadata.fold | escape }}</summary>
{{ super() }}</details>{% else %}{{ super() }}{% endif %}{% endblock %}"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="{up}site.css"></head>
<body><nav aria-label="Course">{nav}</nav><main>{body}</main><nav aria-label="Before and after">{nav}</nav></body></html>
"""
CSS = """
:root { --ink: #1d2125; --soft: #59636e; --paper: #fff; --box: #f5f6f8; --line: #d5d9de; --link: #0b5cad; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.05rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }
main, nav { max-width: 54rem; margin: 0 auto; padding: 0 1rem; }
nav { display: flex; gap: .3rem 1.2rem; flex-wrap: wrap; padding: .8rem 1rem; font-size: .92rem; }
nav a:nth-child(2) { margin-left: auto; }
a { color: var(--link); } a.anchor-link { text-decoration: none; opacity: 0; padding-left: .3em; }
:is(h1, h2, h3, h4):hover .anchor-link, .anchor-link:focus { opacity: .6; }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .5em; } h1 { margin-top: .6em; }
blockquote { margin: 1em 0; padding: .1em 1em; border-left: 4px solid var(--line); color: var(--soft); }
img, svg { max-width: 100%; height: auto; } .output img, p img { background: #fff; border-radius: 4px; }
pre { margin: 0; overflow-x: auto; overflow-wrap: normal; font: .86rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
code { font: .88em ui-monospace, Menlo, Consolas, monospace; } pre code { font: inherit; }
.cell { margin: .8rem 0; }
.input pre, .rendered_html pre, main > pre, main > .highlight pre { padding: .6rem .8rem; background: var(--box);
  border: 1px solid var(--line); border-radius: 6px; }
.highlight { background: none; } .output_wrapper { margin: .4rem 0; } .output_subarea { overflow-x: auto; }
.output_text pre { padding: .2rem .8rem; border-left: 3px solid var(--line); }
.output_html { overflow-wrap: normal; } iframe { max-width: 100%; background: #fff; }
.wide { overflow-x: auto; overflow-wrap: normal; } table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
math[display=block] { overflow-x: auto; overflow-y: hidden; padding: .4rem 0; }
details { margin: .5rem 0; } summary { cursor: pointer; } .plumbing > summary { color: var(--soft); font-size: .85rem; }
@media (max-width: 40rem) { body { font-size: 1rem; } pre { font-size: .78rem; } table { font-size: .88rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; } th, td { padding: .25rem .4rem; } }
"""
DARK = """:root { --ink: #e3e6ea; --soft: #a0a9b3; --paper: #14171a; --box: #1e2226; --line: #3a4149; --link: #7ab7ff; }
.output_html { background: #fff; color: #1d2125; padding: .5rem; border-radius: 4px; } .output_html a { color: #0b5cad; }
"""


class Renderer(IPythonRenderer):
    """Markdown as JupyterLab shows it, formulas as MathML: browsers draw that without a script."""

    def block_math(self, body: str) -> str:
        """A formula on lines of its own."""
        return convert(body, display="block")

    def inline_math(self, body: str) -> str:
        """A formula among words."""
        return convert(body)


def markdown(text: str) -> str:
    """Markdown to HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False)).render(text)


def fold(source: str) -> str:
    """What stands on the line that a folded cell opens with; empty for a cell that is to be read."""
    found = re.match(r"#\|\s*(\w+)\s*(.*)", source)
    if found and found[1] in PLUMBING:
        return PLUMBING[found[1]] + (found[2].replace("_", " ") if found[1] != "test_imports" else "")
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # a line for IPython alone
        return ""
    calls = ("plt.rcParams", "torch.set_num_threads")
    plain = all(isinstance(n, ast.Import | ast.ImportFrom) or ast.unparse(n).startswith(calls) for n in lines)
    return "imports" if lines and plain else ""


def notebook(path: Path, exporter: HTMLExporter) -> str:
    """The body of a notebook's page. Of an exercise the stub as it was handed out: what a learner wrote is the learner's."""
    stub = ROOT / "two_towers/exercise_stubs" / path.parent.name / f"{path.stem}.json"
    if path.is_relative_to(ROOT / "exercises") and stub.exists():
        book = nbformat.reads(json.dumps(json.loads(stub.read_text(encoding="utf-8"))["notebook"]), 4)
    else:
        book = nbformat.read(path, 4)
    without_widgets(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.metadata["fold"] = fold(cell.source)
    return exporter.from_notebook_node(book)[0]


class Assets(HTMLParser):
    """Notes what a browser would fetch from another place to show a page; frames that are written inside it are read too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Asks each attribute of a tag."""
        for key, value in attrs:
            loads = key in ASSETS or key in ("href", "xlink:href") and tag in ("link", "image", "use", "base")
            if value and (loads and ELSEWHERE.match(value) or key == "style" and STYLED.search(value)):
                self.found.append(f'<{tag} {key}="{value[:100]}">')
            if key == "srcdoc" and value:
                self.found += outside(value)
        if tag == "script":
            self.found.append("<script>")

    def handle_data(self, data: str) -> None:
        """Asks a style sheet."""
        if self.lasttag == "style" and (said := STYLED.search(data)):
            self.found.append(said[0][:100])


def outside(page: str) -> list[str]:
    """What of a page is not in the site: assets elsewhere, and scripts, which no page has."""
    parser = Assets()
    parser.feed(re.sub(r'<span class="\w+">|</span>', "", page))  # the colours of code are most of a page's tags
    parser.close()
    return parser.found


def address(name: str) -> str:
    """Where the page of a source stands."""
    return "index.html" if name == "README.md" else re.sub(r"\.(ipynb|md)$", ".html", name)


def settle(body: str, name: str, pages: set[str], to: Path) -> tuple[str, list[str]]:
    """Links between sources become links between pages, files that are named come along; what leads nowhere is returned."""
    lost: list[str] = []

    def settled(match: re.Match[str]) -> str:
        parts = urlsplit(html.unescape(match[2]))
        if parts.scheme or parts.netloc or not parts.path:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
        if target in pages:
            there = posixpath.relpath(address(target), posixpath.dirname(name) or ".")
            return f'{match[1]}"{there}{"#" * bool(parts.fragment)}{html.escape(parts.fragment)}"'
        if not (ROOT / target).is_file():
            lost.append(f"{name}: {match[2]} leads nowhere")
        elif not target.endswith(".ipynb"):  # a notebook that is not among the pages of this site stays at home
            (to / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / target, to / target)
        return match[0]

    body = re.sub(r'(<(?:a|img)\s(?:[^>"]|"[^"]*")*?\b(?:href|src)=)"([^"]*)"', settled, body)
    return body.replace("<table", '<div class="wide"><table').replace("</table>", "</table></div>"), lost


def build(to: Path, only: list[str] | None = None) -> list[str]:
    """Writes the site; returns what is wrong with it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    order = ["README.md", *dict.fromkeys(n for n in SOURCE.findall(readme) if only is None or n in only)]
    if only is not None and (unknown := set(only) - set(order)):
        raise ValueError(f"not in README.md's maps: {', '.join(sorted(unknown))}")
    if to.exists() and any(to.iterdir()):
        if not (to / "site.css").exists():
            raise ValueError(f"{to} holds something that is no site of this course: name another folder, or empty it")
        shutil.rmtree(to)
    to.mkdir(parents=True, exist_ok=True)
    exporter = HTMLExporter(raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", markdown)
    exporter.register_filter("clean_html", lambda code: code)  # Pygments wrote it: it is clean
    bodies, titles, wrong = {}, {}, []
    for name in order:
        raw = markdown(readme) if name == "README.md" else ""
        raw = raw or (notebook(ROOT / name, exporter) if name.endswith("ipynb") else markdown((ROOT / name).read_text("utf-8")))
        bodies[name], lost = settle(raw, name, set(order), to)
        wrong += lost
        heading = re.search(r"(?s)<h1[^>]*>(.*?)</h1>", bodies[name])
        titles[name] = html.unescape(re.sub(r"<[^>]+>", "", heading[1])).replace("¶", "").strip() if heading else Path(name).stem
    for i, name in enumerate(order):
        here, links = posixpath.dirname(name) or ".", [("README.md", "The course")] if i else []
        links += [(order[i - 1], "← " + titles[order[i - 1]])] if i > 1 else []
        links += [(order[i + 1], titles[order[i + 1]] + " →")] if i + 1 < len(order) else []
        nav = " ".join(f'<a href="{posixpath.relpath(address(n), here)}">{html.escape(t)}</a>' for n, t in links)
        title = titles[name] if not i else f"{titles[name]} · two_towers"
        up = "../" * name.count("/")
        page = PAGE.format(title=html.escape(title), up=up, nav=nav, body=bodies[name])
        wrong += [f"{name}: {said} comes from outside" for said in outside(page)]
        (to / address(name)).parent.mkdir(parents=True, exist_ok=True)
        (to / address(name)).write_text(page, encoding="utf-8")
    light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
    css = f"{light}\n{CSS}@media (prefers-color-scheme: dark) {{\n{dark}\n{DARK}.highlight {{ background: none; }} }}\n"
    (to / "site.css").write_text(css, encoding="utf-8")
    return wrong


def main(argv: list[str]) -> int:
    """Builds, and says what came of it."""
    parser = argparse.ArgumentParser(description="the course as a folder of web pages")
    parser.add_argument("--to", type=Path, default=ROOT / "_site")
    parser.add_argument("notebooks", nargs="*", help="paths as in README.md; all of them by default")
    args = parser.parse_args(argv)
    try:
        wrong = build(args.to, args.notebooks or None)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    count = sum(1 for _ in args.to.rglob("*.html"))
    print(f"{count} pages: open {os.path.relpath(args.to / 'index.html')}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
