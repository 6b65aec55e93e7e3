"""leaderboard.html: what it says first, what it leaves away, and that nothing is cut or overlaps."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from outline import Outline
from sample_boards import LONG, make_results, sample_boards
from test_browser import BROWSER, ask, browse

from flair_scoring.base.provenance import KIT_VERSION
from flair_scoring.ranking.standings import make_board
from flair_scoring.report.leaderboard import render_board_page

# What a reader would call broken, in the document of a frame: text outside its cell or its drawing, two texts
# or a text and a dot on each other, a page that scrolls sideways.
AUDIT = """
function audit(root, width) {
  const found = [], box = one => one.getBoundingClientRect(), say = one => one.textContent.slice(0, 40);
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const seen = one => box(one).width > 0 && box(one).height > 0;
  root.querySelectorAll("details").forEach(part => part.open = true);
  if (root.defaultView.innerWidth !== width) found.push(`the frame is ${root.defaultView.innerWidth} wide`);
  if (root.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
  for (const drawing of root.querySelectorAll("svg")) {
    const texts = [...drawing.querySelectorAll("text")].filter(seen);
    texts.forEach((one, index) => {
      const [a, frame] = [box(one), box(drawing)];
      if (a.left < frame.left - 1 || a.right > frame.right + 1) found.push(`cut: ${say(one)}`);
      for (const other of texts.slice(index + 1))
        if (meet(a, box(other))) found.push(`on each other: ${say(one)} and ${say(other)}`);
      for (const dot of drawing.querySelectorAll("circle"))
        if (meet(a, box(dot))) found.push(`on a dot: ${say(one)}`);
    });
  }
  for (const cell of root.querySelectorAll("th, td, p, h1, h2, summary")) {
    const text = root.createRange();
    text.selectNodeContents(cell);
    const [inner, outer] = [box(text), box(cell)];
    const outside = inner.right > outer.right + 1 || inner.left < outer.left - 1 ||
      inner.bottom > outer.bottom + 1;
    if (outside && seen(cell) && cell.textContent && !cell.matches(".plot"))
      found.push(`wider than its place: ${say(cell)}`);
  }
  for (const table of root.querySelectorAll("table"))
    if (box(table).width > box(table.parentElement).width + 1 &&
        getComputedStyle(table.parentElement).overflowX !== "auto") found.push("a table is cut");
  return found;
}
"""
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no browser; apt-get install chromium")


def audit(pages: Mapping[str, str], width: int, folder: Path) -> dict[str, list[str]]:
    """What is broken in each page in a frame of that width; nothing may reach the console.

    The window of a browser has a least width, a frame has none.
    """
    frames = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        for page in pages.values()
    )
    script = (
        f"{AUDIT} onload = () => document.title = 'ANSWER ' + JSON.stringify("
        f"[...document.querySelectorAll('iframe')].map(one => audit(one.contentDocument, {width})));"
    )
    path = folder / "frames.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><script>{script}</script>{frames}')
    done = browse(path, "--dump-dom", "--enable-logging=stderr", "--window-size=1400,1000")
    assert "CONSOLE" not in done.stderr, done.stderr
    answer = re.search(r"<title>ANSWER (.*?)</title>", done.stdout)
    assert answer, done.stdout[:500]
    found: list[list[str]] = json.loads(html.unescape(answer[1]))
    return dict(zip(pages, found, strict=True))


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_and_nothing_overlaps(tmp_path: Path, width: int) -> None:
    pages = {kind: render_board_page(board) for kind, board in sample_boards().items()}
    assert audit(pages, width, tmp_path) == {kind: [] for kind in pages}


@needs_browser
def test_the_audit_sees_what_is_broken(tmp_path: Path) -> None:
    page = render_board_page(sample_boards()["10 entries, 3 failed"])
    name = r'(<text[^>]*) x="([\d.]+)" y="([\d.]+)"([^>]*>utt_best<)'
    place = re.search(name, page)
    assert place
    on_dot = re.sub(r'cx="[\d.]+" cy="[\d.]+"', f'cx="{place[2]}" cy="{place[3]}"', page)
    broken = {
        "on each other": re.sub(r'(<text x=)"[\d.]+"( y="438)', r'\1"300"\2', page),
        "on a dot": on_dot,
        "cut": re.sub(name, r'\1 x="-90" y="\3"\4', page),
        "wider": page.replace("</style>", ".board .name { white-space: nowrap; max-width: 3rem; }</style>"),
        "scrolls": page.replace("</style>", ".wide { overflow: visible; }</style>"),
    }
    found = audit(broken, 390, tmp_path)
    assert all(any(kind in one for one in problems) for kind, problems in found.items()), found


@needs_browser
def test_names_sort_by_the_alphabet_and_numbers_in_them_by_size(tmp_path: Path) -> None:
    names = ("entry 10", "alpha", "7 of 9", "entry 9")
    results = [replace(one, name=name) for one, name in zip(make_results(4), names, strict=True)]
    page = tmp_path / "page.html"
    page.write_text(render_board_page(make_board(results)))
    read = "[...document.querySelectorAll('.board tbody tr')].map(row => row.cells[1].textContent)"
    click = "document.querySelectorAll('.board thead th')[1].click()"
    assert ask(page, f"({click}, {read})") == ["7 of 9", "alpha", "entry 9", "entry 10"]


@pytest.mark.parametrize("name", ["entry", LONG])
def test_a_page_of_fifty_entries_is_small(name: str) -> None:
    page = render_board_page(make_board(make_results(44, failed=4, left_out=2, name=name)))
    assert len(page.encode()) < 300_000
    assert re.findall(r">p-values of each pair among the first 10 results<", page)
    assert "The other 34 results are left out here." in page
    pairs = page[page.index("<h2>Differences") : page.index("<h2>Published")]
    assert pairs.count("<td") == 100


def facts(page: str) -> list[str]:
    (line,) = re.findall(r'<p class="about soft">(.*?)</p>', page)
    return [html.unescape(fact) for fact in re.findall("<span>(.*?)</span>", line)]


def test_the_line_under_the_title_tells_data_entries_date_and_version() -> None:
    board = make_board(make_results(7, failed=3, left_out=1))
    made = datetime(2026, 11, 30, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    assert facts(render_board_page(board, made)) == [
        "11 entries (7 ranked, 3 without a score, 1 not ranked)",
        "12 classes (flair-12)",
        "8 domains",
        "29 November 2026, 23:05 UTC",
        f"kit {KIT_VERSION}",
    ]
    assert facts(render_board_page(make_board(make_results(1))))[0] == "1 entry"
    today = datetime.now(UTC)
    assert f"{today.day} {today:%B %Y}" in facts(render_board_page(board))[3]


def lead(page: str) -> str:
    (sentence,) = re.findall(r'<p class="lead">(.*?)</p>', page)
    return html.unescape(re.sub("</?b>", "", sentence))


def test_the_first_sentence_names_the_leader_and_its_group() -> None:
    assert lead(render_board_page(make_board([]))) == "No result is ranked."
    alone = make_results(1)
    miou = f"{alone[0].scores['miou']:.4f}"
    page = render_board_page(make_board(alone))
    assert "p leader" not in page  # nothing was tested
    assert lead(page) == (f"utt_best is the only ranked result, with a mIoU of {miou}.")
    first, second, third = make_results(3)
    best = f"{first.scores['miou']:.4f}"
    assert lead(render_board_page(make_board([first, second]))) == (
        f"utt_best leads with a mIoU of {best}. "
        "The tests leave it alone in the leader's group, tinted in the table."
    )
    assert lead(render_board_page(make_board([second, third]))) == (
        f"{second.name} and {third.name} share the best mIoU, {second.scores['miou']:.4f}. "
        "The tests find no difference between any of the ranked results and the best."
    )
    lasting = [replace(first, name=f"n{index}") for index in range(4)]
    assert lead(render_board_page(make_board([*lasting, second]))) == (
        f"4 results share the best mIoU, {best}. "
        "The tests leave them alone in the leader's group, tinted in the table."
    )
    untested = make_results(2, domains=4)
    assert lead(render_board_page(make_board(untested))) == (
        f"utt_best leads with a mIoU of {untested[0].scores['miou']:.4f}."
    )


def test_the_leaders_group_is_tinted_down_to_its_last_row() -> None:
    _first, second, third, *_others, ninth, tenth = make_results(10)
    page = render_board_page(make_board([second, third, ninth, tenth]))
    assert re.findall(r"<tr( class=\"[a-z ]+\")?><td class=\"rank\">(\d)", page) == [
        (' class="leader"', "1"),
        (' class="leader last"', "1"),
        ("", "3"),
        ("", "4"),
    ]


HEADS = (
    "rank",
    "name",
    "mIoU",
    "95 % interval",
    "group",
    "p leader",
    "p above",
    "time ratio",
    "inference s",
    "verdict",
)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, set()),
        ({"timed": False}, {"time ratio", "inference s", "verdict"}),
        ({"domains": 0}, {"95 % interval", "group", "p leader", "p above"}),
        ({"domains": 4}, {"group", "p leader", "p above"}),
    ],
)
def test_columns_without_content_are_not_there(options: dict[str, Any], missing: set[str]) -> None:
    page = render_board_page(make_board(make_results(4, **options)))
    table = page[page.index("<thead>") : page.index("</thead>")]
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", table)
    assert heads == [head for head in HEADS if head not in missing]
    assert ("mIoU and time" in Outline(page).text) == options.get("timed", True)


def test_failures_and_what_is_left_out_have_lists_of_their_own() -> None:
    page = render_board_page(make_board(make_results(3, failed=3, left_out=1)))
    ranked, rest = page.split("<h2>Without a score</h2>")
    failed, left_out = rest.split("<h2>Not ranked</h2>")
    assert "stopped after" not in ranked
    assert "over_limit" not in page
    assert "within_limit" not in page
    assert '<td class="text">over the limit, time ratio 3.100, 140.52 s</td>' in failed
    assert failed.count('<td class="text">failed</td>') == 2
    assert failed.count(" …</td>") == 2  # the csv and json files have the whole reason
    assert '<td class="long text">not ranked: utt_best is the best</td>' in left_out
    assert "<h2>Not ranked" not in render_board_page(make_board(make_results(3)))


def test_a_class_that_does_not_occur_has_an_empty_cell() -> None:
    explained = "Where a cell is empty, the class occurs neither in the references nor in the predictions"
    results = make_results(2, absent=8)
    for absent in (False, True):
        if absent:  # in the first result nothing is taken for the class either
            for matrix in results[0].domains.values():
                matrix[:, 9] += matrix[:, 8]
                matrix[:, 8] = 0
        page = render_board_page(make_board(results))
        classes = page[page.index("<h2>Classes") : page.index("<h2>Published")]
        first, second = re.findall(r"<tr><th>[^<]+</th>(.+)</tr>", classes)
        cells = [re.findall(r"<td[^>]*>(?:<b>)?([^<]*)", row)[8] for row in (first, second)]
        assert cells == (["", "0.0"] if absent else ["0.0", "0.0"])
        assert (explained in classes) == absent


def test_a_verdict_that_ingestion_does_not_give_is_shown_and_not_run() -> None:
    (result,) = make_results(0, failed=1)
    result.timing.update(verdict="<img src=x>", reason="<script>")
    page = render_board_page(make_board([result]))
    assert "&lt;img src=x&gt;" in page
    assert "<img" not in page
    assert page.count("<script>") == 1


def test_marks_that_turn_the_direction_are_shown_in_no_part_of_the_page() -> None:
    """ranking.results replaces them in the names of folders; names may come from elsewhere."""
    results = [replace(one, name=f"{one.name}\u202eexe.fdp") for one in make_results(3, failed=1)]
    assert "\u202e" not in render_board_page(make_board(results))


def test_pairs_are_numbered_by_rows_since_equal_results_share_a_rank() -> None:
    page = render_board_page(make_board(make_results(3)))
    assert re.findall(r'<td class="rank">(\d)', page) == ["1", "2", "2"]
    pairs = page[page.index("<h2>Differences") : page.index("<h2>Published")]
    assert re.findall(r"<th>(\d)\.\xa0", pairs) == ["1", "2", "3"]
    assert "places in the table above" not in pairs
