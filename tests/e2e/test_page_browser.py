"""`two-towers serve` in a process of its own, and its page in headless Chromium: what a person types and sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from two_towers.data import load
from two_towers.engine import build_index, update_index
from two_towers.towers import DualEncoder

pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'two_towers[serve]'")

ROOT = Path(__file__).resolve().parents[2]
MAIN = [sys.executable, "-c", "import sys; from two_towers.cli import main; sys.exit(main())"]
BAD = "<img src=x onerror=\"document.title='taken over'\"> tea </script><script>document.title='taken over'</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model over the sample, one hostile document among the others."""
    place, data = tmp_path_factory.mktemp("served") / "model", load("sample")
    model = DualEncoder.for_corpus(data, dim=16, progress=False)
    model.save(place)
    build_index(model, {**data.corpus, "<b>bad</b>": BAD}, place, urls={"<b>bad</b>": "shelf/<i>7</i>"})
    return place


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of the running service, and its process."""
    process = subprocess.Popen([*MAIN, "serve", str(folder), "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, line + process.stdout.read()
    try:
        yield found[0], process
    finally:
        process.kill()
        process.wait()


def ask(address: str, path: str) -> tuple[int, Any]:
    """Status and JSON."""
    try:
        with urllib.request.urlopen(address + path, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def test_fifty_at_once_and_an_orderly_end(served: tuple[str, subprocess.Popen], folder: Path) -> None:
    address, process = served
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: ask(address, f"search?q=tea+{i}&k=3"), range(200)))
    assert {status for status, _ in answers} == {200} and {len(a["hits"]) for _, a in answers} == {3}
    assert ask(address, "search?q=")[0] == 422 and ask(address, "healthz")[1]["waiting"] == 0
    taken = subprocess.run([*MAIN, "serve", str(folder), "--port", address.rsplit(":")[-1].strip("/")], cwd=ROOT, text=True,
                           capture_output=True, timeout=100)
    assert taken.returncode == 2 and "choose another --port" in taken.stderr and taken.stderr.count("\n") == 1
    data = load("sample")
    model = DualEncoder.load(folder)
    update_index(model, {**data.corpus, "<b>bad</b>": BAD}, folder, urls={"<b>bad</b>": "shelf/<i>7</i>"})
    assert ask(address, "search?q=tea")[1]["hits"]  # the index was replaced under it: it goes on with what it has opened
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said


def test_ctrl_c_is_told_even_where_the_server_swallows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    from two_towers.app import serve

    class Swallows:
        def __init__(self, config: Any) -> None:
            self.started = self.should_exit = True

        def run(self, sockets: list[Any]) -> None:
            sockets[0].close()

    monkeypatch.setattr(uvicorn, "Server", Swallows)
    with pytest.raises(KeyboardInterrupt):
        serve(folder, port=0)


def test_a_person_types_and_reads(page: Any, served: tuple[str, subprocess.Popen], tmp_path: Path) -> None:
    address, _ = served
    outside, errors = [], []
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((address, "data:")) else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(address)
    page.locator("label", has_text="compare").wait_for()
    box, hits, said = page.locator("#q"), page.locator("li"), page.locator("#said")
    assert page.evaluate("document.activeElement.id") == "q"  # one can type at once
    page.keyboard.type("how hot should water for tea be", delay=10)
    hits.first.wait_for()
    want = ask(address, "search?q=how+hot+should+water+for+tea+be")[1]
    page.locator(f"li[data-id='{want['hits'][-1]['id']}']").wait_for()
    assert [li.get_attribute("data-id") for li in hits.all()] == [h["id"] for h in want["hits"]]
    assert "BM25" in hits.first.inner_text() and "towers" in hits.first.inner_text() and "both 1" in hits.first.inner_text()
    assert page.locator("mark", has_text=re.compile("^tea$", re.I)).count() and "ms" in said.inner_text()
    assert "q=how+hot" in page.url

    page.keyboard.press("ArrowDown")  # from the box to the first hit, the second, back; then the whole text
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.id") == want["hits"][1]["id"]
    page.keyboard.press("Enter")
    assert hits.nth(1).get_attribute("aria-expanded") == "true"
    assert hits.nth(1).locator("p").inner_text().strip() == want["hits"][1]["text"].strip()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "q"

    box.fill("tea taken over")  # the hostile document is shown as what it is
    page.locator("li[data-id='<b>bad</b>']").wait_for()
    assert page.title() == "two towers" and page.locator("img").count() == 0 and "shelf/<i>7</i>" in page.content().replace(
        "&lt;", "<").replace("&gt;", ">")
    assert page.locator("li[data-id='<b>bad</b>']").inner_text().count("onerror") == 1

    page.locator("label", has_text="compare").click()
    page.locator("main.two").wait_for()
    assert page.locator("h2").all_inner_texts() == ["BM25", "towers"]
    assert page.locator("li.alone").count() >= 1 and "not in the first ten of" in page.locator("li.alone").first.inner_text()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # on a phone nothing runs out at the side
    tops = page.evaluate("[...document.querySelectorAll('section')].map(part => part.getBoundingClientRect().top)")
    assert len(tops) == 2 and tops[0] + 10 < tops[1], tops

    box.fill("?!")
    page.locator("p.bad").wait_for()
    assert "has no word in it" in page.locator("p.bad").inner_text()
    box.fill("tea")
    hits.first.wait_for()
    box.fill("")
    hits.first.wait_for(state="detached")
    assert page.locator("main > *").count() == 0
    page.goto(address + "?q=tea&by=bm25")  # an address that somebody sent
    hits.first.wait_for()
    assert box.input_value() == "tea" and page.locator("input[value=bm25]").is_checked() and "towers" not in hits.first.inner_text()
    assert not outside and not errors
