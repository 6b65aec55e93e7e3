"""The pages in a real browser: they render, ask the network for nothing, show hostile names as text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sample_patches import Patches

from flair_scoring import evaluate
from flair_scoring.base.provenance import stamp
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import make_board
from flair_scoring.report.leaderboard import render_board_page
from flair_scoring.report.result import render_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=http://example.invalid/x onerror=document.title='CHEATED'>"
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser; apt-get install chromium")


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window."""
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", profile, *QUIET, *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)


def requested(page: Path) -> set[str]:
    """Hosts that the page, and not the browser itself, asked for anything."""
    log = page.parent / "net.json"
    browse(page, f"--log-net-log={log}", "--enable-logging=stderr", "--dump-dom")
    urls = re.findall(r'"url":"(https?://[^"]+)"', log.read_text())
    return {url.split("/")[2] for url in urls if "google" not in url.split("/")[2]}


def ask(page: Path, expression: str, width: int = 1280) -> Any:
    """The value of a JavaScript expression in the page, once it has loaded."""
    probe = f"<script>document.title = 'ANSWER ' + JSON.stringify({expression});</script>"
    changed = page.with_name("probe.html")
    changed.write_text(page.read_text().replace("</body>", probe + "</body>"))
    dom = browse(changed, "--dump-dom", f"--window-size={width},1000").stdout
    found = re.search(r"<title>ANSWER (.*?)</title>", dom)
    assert found, dom[:500]
    return json.loads(unescape(found[1]))


def mistake_more(matrix: np.ndarray, times: int) -> np.ndarray:
    """The same references with `times` times 100 pixels more of each class taken for the next class."""
    moved = 100 * times * np.eye(len(matrix), dtype=matrix.dtype)
    return matrix - moved + np.roll(moved, 1, axis=1)


@pytest.fixture(params=["report", "leaderboard"])
def page(request: pytest.FixtureRequest, patches: Patches, tmp_path: Path) -> Path:
    timing = stamp() | {"verdict": "within_limit", "reason": None, "ratio": 1.2, "limit_ratio": 2.5}
    timing |= {
        "device": {"name": HOSTILE},
        "latencies_ms": [10.0, 12.0],
        "requests": 2,
        "reference_seconds": 1,
    }
    path = tmp_path / "page.html"
    if request.param == "report":
        path.write_text(render_report(evaluate(patches.predictions, patches.references), timing))
        return path
    rng = np.random.default_rng(0)
    matrices = [np.diag(rng.integers(500, 900, 13)) + rng.integers(0, 100, (13, 13)) for _ in range(8)]
    results = []
    for index, name in enumerate((HOSTILE, "plain")):
        domains = {
            f"D{number:03d}_2020": mistake_more(matrix, index) for number, matrix in enumerate(matrices)
        }
        scores = {"miou": 0.6 - index / 10, "miou_low": 0.4, "miou_high": 0.7, "iou_water": 0.5}
        results.append(Result(name, scores, timing, domains))
    path.write_text(render_board_page(make_board(results)))
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_renders_at_every_width(page: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    done = browse(page, f"--screenshot={picture}", f"--window-size={width},1500", "--enable-logging=stderr")
    assert "CONSOLE" not in done.stderr, done.stderr
    with Image.open(picture) as image:
        assert image.width == width
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert ask(page, "document.documentElement.scrollWidth <= innerWidth", width) is True


def test_asks_the_network_for_nothing_and_runs_nothing(page: Path) -> None:
    assert requested(page) == set()
    assert ask(page, "document.querySelectorAll('img').length") == 0
    assert ask(page, "document.body.textContent.includes('onerror=document.title')") is True
    page.write_text(page.read_text().replace("</body>", HOSTILE + "</body>"))
    assert requested(page) == {"example.invalid"}  # what this test would have seen


@pytest.mark.parametrize("page", ["leaderboard"], indirect=True)
def test_a_click_on_a_heading_sorts(page: Path) -> None:
    names = "[...document.querySelectorAll('.board tbody tr')].map(row => row.cells[1].textContent)"
    click = "document.querySelectorAll('.board thead th')[{}].click()"
    name, miou = click.format(1), click.format(2)
    foot = "document.querySelector('.board tfoot').textContent"
    steps = [names, f"({miou}, {names})", f"({miou}, {names})", f"({name}, {name}, {names})", foot]
    *orders, last = ask(page, f"[{', '.join(steps)}]")
    highest_first = [HOSTILE, "plain"]
    assert orders == [highest_first, highest_first, highest_first[::-1], highest_first[::-1]]  # Z to A
    assert last.startswith("reference")  # stays below, in whatever order
