"""The course as web pages: complete, whole by itself, and quiet in a browser that has no network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = ["nbs/00_start.ipynb", "nbs/lesson1_compare/02_losses.ipynb", "nbs/lesson1_compare/03_playground.ipynb",
          "nbs/lesson2_search/06f_viewer.ipynb", "exercises/lesson1/01_one_number.ipynb", "exercises/workshop/GUIDE.md"]


def make(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / ".ci/make_site.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of a few notebooks: all of them take a minute."""
    to = tmp_path_factory.mktemp("made") / "site"
    done = make("--to", to, *CHOSEN)
    assert done.returncode == 0, done.stdout + done.stderr
    return to


class Page(HTMLParser):
    """The ids, links and assets of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.tags: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.add(value)
            elif key == "href" and tag == "a":
                self.links.append(value)
            elif key in ("src", "href"):
                self.assets.append(value)


def test_every_notebook_has_a_page_that_takes_nothing_from_outside(site: Path) -> None:
    for name in ["README.md", *CHOSEN]:
        path = site / ("index.html" if name == "README.md" else re.sub(r"\.\w+$", ".html", name))
        page = Page(path)
        assert "script" not in page.tags and not [a for a in page.assets if re.match(r"(https?:)?//", a)]
        assert all(a.startswith("data:") or (path.parent / unquote(a)).is_file() for a in page.assets)


def test_every_link_inside_lands(site: Path) -> None:
    pages = {p.resolve(): Page(p) for p in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or parts.path.endswith(".ipynb"):  # .ipynb: not among the chosen
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            assert not parts.fragment or {parts.fragment, unquote(parts.fragment)} & pages[target].ids, f"{path.name}: {link}"


def test_the_maps_are_the_whole_course() -> None:
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        import make_site
    finally:
        sys.path.remove(str(ROOT / ".ci"))
    pages = make_site.SOURCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    wanted = [p for p in (ROOT / "nbs").rglob("[!._]*.ipynb") if not {".ipynb_checkpoints", "exercises"} & {*p.parts}]
    wanted += (ROOT / "exercises").glob("lesson*/[!._]*[!0-9].ipynb")
    assert not [p.name for p in wanted if ".backup" not in p.name and p.relative_to(ROOT).as_posix() not in pages]


def test_an_asset_from_outside_is_found() -> None:
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        import make_site
    finally:
        sys.path.remove(str(ROOT / ".ci"))
    for bad in ('<img alt="a>b" src="https://x/y.png">', '<link rel=stylesheet href=//x/y.css>', "<script>1</script>",
                '<div style="background:url(http://x/y.png)">', "<style>@import 'https://x/y.css';</style>",
                '<iframe srcdoc="&lt;img src=&quot;http://x/y.png&quot;&gt;"></iframe>'):
        assert make_site.outside(bad), bad
    assert not make_site.outside('<a href="https://x/y">there</a><img src="data:,"><pre>&lt;script src="http://x"&gt;</pre>')


def test_widgets_are_pictures_and_tests_are_folded(site: Path) -> None:
    text = (site / "nbs/lesson1_compare/03_playground.html").read_text(encoding="utf-8")
    assert re.search(r'<img[^>]+src="data:image/png', text)
    assert '<script type="application/vnd.jupyter' not in text  # what the notebook says of widgets is prose
    assert '<details class="plumbing"><summary>test: ' in text
    assert "<math" in (site / "nbs/lesson1_compare/02_losses.html").read_text(encoding="utf-8")
    assert "NotImplementedError" in (site / "exercises/lesson1/01_one_number.html").read_text(encoding="utf-8")


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = make("--to", tmp_path, CHOSEN[0])
    assert done.returncode == 2 and "no site of this course" in done.stderr and (tmp_path / "mine.txt").exists()
    assert make("--to", tmp_path / "new", "nbs/none.ipynb").returncode == 2


def test_in_a_browser_without_a_network(site: Path, page: Any) -> None:
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text))
    page.on("pageerror", lambda e: said.append(str(e)))
    page.route("**/*", lambda r: r.continue_() if r.request.url.startswith(("file:", "data:")) else (said.append(r.request.url), r.abort()))
    page.context.set_offline(True)
    page.set_viewport_size({"width": 390, "height": 844})
    for path in site.rglob("*.html"):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{path.name} scrolls sideways"
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)"), f"{path.name}: a picture is missing"
    assert not said
