"""The page of a result in a real browser: nothing cut or overlapping, whatever the result and the width."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest
from sample_patches import Patches
from test_browser import BROWSER, browse, requested
from test_differences import make_evaluation, store

from flair_scoring import Evaluation, evaluate
from flair_scoring.base.errors import PredictionError, TimeLimitError
from flair_scoring.ranking.comparison import compare, read_other
from flair_scoring.report.bars import scale
from flair_scoring.report.failure import render_failure
from flair_scoring.report.html import render_page, table
from flair_scoring.report.result import render_report
from flair_scoring.report.result_style import RESULT_STYLE

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser; apt-get install chromium")
LONG = "a_submission_with_a_name_of_sixty_characters_0123456789_abcd"
TIMING = {
    "verdict": "within_limit",
    "ratio": 0.056,
    "limit_ratio": 2.5,
    "inference_seconds": 2.5,
    "reference_seconds": 45.3,
    "latencies_ms": [212.0, 192.5, 220.5, 227.0],
    "requests": 4,
    "device": {"name": "NVIDIA H200 " * 6},
    "submission_sha256": "6b4a6f1b69467cf97885c346fca1f4191365d843c405501b06d94b7a7f5d48f2",
}
# Run within the page. A problem is what is cut, lies on another text, or lies outside of the window, where
# nobody can scroll to it
LOOK = """
const problems = [];
if (document.documentElement.scrollWidth > innerWidth) problems.push('the page is wider than the window');
const texts = 'h1, h2, h3, p, li, pre, .ticks span, figcaption, figure, .row';
for (const node of document.querySelectorAll(texts)) {
  const box = node.getBoundingClientRect(), told = node.textContent.slice(0, 40);
  const outside = box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
  if (outside && !node.closest('.wide')) problems.push('outside: ' + told);
  const cut = node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display != 'inline';
  if (cut) problems.push('cut: ' + told);
}
for (const ticks of document.querySelectorAll('.ticks')) {
  let end = -Infinity;
  for (const label of ticks.children) {
    const box = label.getBoundingClientRect();
    if (box.left < end) problems.push('overlapping: ' + label.textContent);
    if (box.height > 30) problems.push('in several lines: ' + label.textContent);
    end = box.right + 2;
  }
}
for (const name of document.querySelectorAll('.chart tbody th')) {
  const text = document.createRange(), words = name.textContent.split(' ').length;
  text.selectNodeContents(name);
  if (text.getClientRects().length > words) problems.push('a word is broken: ' + name.textContent);
}
for (const one of document.querySelectorAll('.wide')) {
  const first = one.querySelector('tbody th');
  one.scrollLeft = 50;
  if (first && Math.abs(first.getBoundingClientRect().left - one.getBoundingClientRect().left) > 1)
    problems.push('the first column does not stay: ' + first.textContent);
}
"""
COLLECT = """
const found = {};
addEventListener('message', event => {
  found[event.data[0]] = event.data.slice(1);
  document.title = 'ANSWER ' + JSON.stringify(found);
});
"""


def look(pages: dict[str, str], folder: Path, widths: Sequence[int]) -> dict[str, list[str]]:
    """Problems of pages at each width, by name and width.

    Each page is shown in a frame: the window of a browser cannot be as narrow as a telephone.
    """
    frames = []
    for number, (name, content) in enumerate(pages.items()):
        for width in widths:
            file, title = f"page{number}-{width}.html", json.dumps(f"{name}, {width}")
            probe = f"<script>{LOOK}parent.postMessage([{title}, innerWidth, problems], '*');</script></body>"
            (folder / file).write_text(content.replace("</body>", probe))
            frames.append(f'<iframe style="width:{width}px;height:900px;border:0" src="{file}"></iframe>')
    outer = folder / "outer.html"
    frames.insert(0, f"<!doctype html><title></title><script>{COLLECT}</script><body>")
    outer.write_text("".join(frames) + "</body>")
    options = (
        "--dump-dom",
        "--window-size=2000,1000",
        "--enable-logging=stderr",
        "--virtual-time-budget=9000",
    )
    done = browse(outer, *options)
    assert "CONSOLE" not in done.stderr, done.stderr
    answer = re.search(r"<title>ANSWER (.*?)</title>", done.stdout)
    assert answer, done.stdout[:500]
    found = json.loads(unescape(answer[1]))
    assert {name: seen for name, (seen, _) in found.items()} == {
        f"{name}, {width}": width for name in pages for width in widths
    }
    return {name: problems for name, (_, problems) in found.items()}


def without_vineyard(evaluation: Evaluation) -> Evaluation:
    evaluation.matrices[:, 8, :] = evaluation.matrices[:, :, 8] = 0
    return evaluation


def make_pages(folder: Path) -> dict[str, str]:
    fifty = make_evaluation(50, 0.3, 1)
    other = read_other(store(make_evaluation(50, 0.3, 2), folder / LONG))
    slow = TIMING | {"latencies_ms": [20.0] * 500 + [31.0] * 20 + [4000.0], "ratio": 2.45}
    few = make_evaluation(4, 0.1, 3)
    small = read_other(store(few, folder / "other"))
    log = "RuntimeError: Missing key(s) in state_dict: " + "weight_" * 60
    reason = f"ingestion failed: the model raised an error:\n  File {'/long' * 60}\n  {log}"
    return {
        "fifty domains": render_report(fifty, slow, comparison=compare(fifty, other)),
        "four domains": render_report(few, TIMING, comparison=compare(few, small)),
        "no time, no domains, a class less": render_report(
            without_vineyard(replace(make_evaluation(4, 0.3), domains=("",) * 4, areas=("",) * 4)), {}
        ),
        "long numbers": render_report(few, TIMING | {"latencies_ms": [12345.6, 12345.9], "requests": 2}),
        "six decades": render_report(few, TIMING | {"latencies_ms": [0.01, 0.01, 2000.0], "requests": 3}),
        "failed": render_failure(PredictionError(reason), TIMING | {"verdict": "failed"}, platform=True),
        "late": render_failure(
            TimeLimitError("over the time limit"), TIMING | {"verdict": "over_limit", "ratio": 3.1}, True
        ),
    }


def test_nothing_is_cut_or_overlaps(tmp_path: Path) -> None:
    found = look(make_pages(tmp_path), tmp_path, [390, 1280])
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_nothing_is_cut_and_no_name_is_broken_in_print(tmp_path: Path) -> None:
    """On the width of A4 between its margins."""
    pages = {
        name: page.replace("@media print {", "@media all {") for name, page in make_pages(tmp_path).items()
    }
    found = look(pages, tmp_path, [703])
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_what_is_cut_or_overlaps_would_be_seen(tmp_path: Path) -> None:
    labels = scale([(0.5, "a long label"), (0.51, "another one")])
    cut = "<p style='overflow:hidden;white-space:nowrap'>" + "cut " * 300 + "</p>"
    lines = "<style>.ticks span { width: 1px; white-space: normal }</style>"
    slid = table(["", *"abcdefghij"], [["x", *["y" * 20] * 10]])
    slid += "<style>.wide th:first-child { position: static }</style>"
    pages = {
        "overlap": render_page("", labels, style=RESULT_STYLE),
        "cut": render_page("", cut, style=RESULT_STYLE),
        "wide": render_page("", "<h2 style='width:2000px'>wide</h2>", style=RESULT_STYLE),
        "lines": render_page("", labels, lines, style=RESULT_STYLE),
        "slid": render_page("", slid, style=RESULT_STYLE),
    }
    found = look(pages, tmp_path, [390])
    assert "overlapping: another one" in found["overlap, 390"]
    assert found["cut, 390"][0].startswith("cut: cut cut")
    assert "in several lines: a long label" in found["lines, 390"]
    assert found["wide, 390"][0] == "the page is wider than the window"
    assert found["slid, 390"] == ["the first column does not stay: x"]


def test_a_page_with_differences_asks_the_network_for_nothing(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    own = make_evaluation(6, 0.3, 1)
    page = tmp_path / "page.html"
    page.write_text(
        render_report(own, {}, comparison=compare(own, read_other(store(own, tmp_path / hostile))))
    )
    assert escape(hostile) in page.read_text()
    assert requested(page) == set()


def test_what_is_folded_is_printed(patches: Patches, tmp_path: Path) -> None:
    """The same rules that a printer applies, on the screen: the closed section takes its place."""
    page = tmp_path / "page.html"
    content = render_report(evaluate(patches.predictions, patches.references), TIMING)
    assert "@media print {" in content
    assert "<details>" in content  # closed on the screen
    probe = "document.querySelector('details').getBoundingClientRect().height"
    script = f"<script>document.title = 'ANSWER ' + {probe}</script></body>"
    page.write_text(content.replace("@media print {", "@media all {").replace("</body>", script))
    found = re.search(r"ANSWER ([\d.]+)", browse(page, "--dump-dom").stdout)
    assert found
    assert float(found[1]) > 300


def test_a_page_of_fifty_domains_is_small(tmp_path: Path) -> None:
    assert all(len(content) < 100_000 for content in make_pages(tmp_path).values())
