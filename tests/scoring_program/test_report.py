"""detailed_results.html: whole, self-contained, escaped, and with the numbers of the evaluation."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sample_patches import Patches

from flair_scoring import Evaluation, evaluate
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.page import bar, render_page, table
from flair_scoring.report import render_report, render_text

TIMING = {
    "verdict": "within_limit",
    "ratio": 1.23456,
    "limit_ratio": 2.5,
    "inference_seconds": 80.0,
    "schema": 1,
}
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


class Outline(HTMLParser):
    """Collects text; fails where tags are not closed in order."""

    VOID = frozenset({"meta", "html", "body"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {"src", "href"} & dict(attributes).keys()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def evaluation(patches: Patches) -> Evaluation:
    return evaluate(patches.predictions, patches.references)


def test_the_report_shows_score_classes_domains_and_time(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING)
    text = Outline(page).text
    assert f"{evaluation.miou:.4f}" in text
    assert {*FLAIR_12.classes, "D015_2020", "D022_2021", "D061_2020"} <= set(text)
    assert {f"{value:.4f}" for value in evaluation.iou} <= set(text)
    assert all(f"background:{colour}" in page for colour in FLAIR_12.colours)
    assert any("1.235 (limit 2.5)" in line for line in text)


def test_the_report_needs_no_network_and_no_script(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING)
    allowed = "html meta title style body h1 h2 p div table thead tbody tr th td"
    assert Outline(page).tags <= set(allowed.split())
    assert not re.search(r"https?:|url\(|@import", page)


def test_rows_of_the_confusion_matrix_are_per_cent_of_the_reference(evaluation: Evaluation) -> None:
    text = Outline(render_report(evaluation, {})).text
    start = text.index("Per cent of each reference class (row) by predicted class (column).")
    cells = [cell for cell in text[start:] if cell.isdigit()][: 13 * 13]
    matrix = evaluation.matrix
    expected = np.rint(100 * matrix / matrix.sum(axis=1, keepdims=True)).astype(int)
    np.testing.assert_array_equal(np.array(cells, int).reshape(13, 13), expected)


def test_strange_text_is_shown_and_not_run(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING | {"device": {"name": HOSTILE}, HOSTILE: 1})
    assert "<img" not in page
    assert HOSTILE in Outline(page).text
    assert "<img" not in render_page(HOSTILE, table([HOSTILE], [[HOSTILE, HOSTILE, bar(0.5, HOSTILE)]]))


def test_absent_classes_are_named(evaluation: Evaluation) -> None:
    matrices = evaluation.matrices.copy()
    matrices[:, 8, :] = matrices[:, :, 8] = 0
    without = Evaluation(FLAIR_12, evaluation.ids, evaluation.domains, evaluation.areas, matrices)
    page = render_report(without, {})
    assert "Neither in references nor predictions: vineyard." in page
    assert "nan" not in page
    (line,) = [line for line in render_text(without).splitlines() if line.startswith("vineyard")]
    assert line.split()[1:] == ["-", "-", "-", "-", "0.00%"]
