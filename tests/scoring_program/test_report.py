"""detailed_results.html: whole, self-contained, escaped, and with the numbers of the evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from outline import Outline
from sample_patches import Patches

from flair_scoring import Evaluation, evaluate, mean_iou
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.ingestion_output import read_timing
from flair_scoring.report.html import bar, render_page, table
from flair_scoring.report.result import render_report, render_text

TIMING = {
    "verdict": "within_limit",
    "ratio": 1.23456,
    "limit_ratio": 2.5,
    "inference_seconds": 80.0,
    "schema": 1,
}
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
def evaluation(patches: Patches) -> Evaluation:
    return evaluate(patches.predictions, patches.references)


def test_the_report_shows_score_classes_domains_and_time(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING)
    text = Outline(page).text
    assert f"{evaluation.miou:.4f}" in text
    assert set(FLAIR_12.classes) <= set(text)
    domains = [line.split()[0] for line in text if line.endswith(" patches)")]
    mious = [mean_iou(evaluation.domain_matrices[domain]) for domain in domains]
    assert sorted(domains) == ["D015_2020", "D022_2021", "D061_2020"]
    assert mious == sorted(mious, reverse=True)
    assert {f"{value:.4f}" for value in evaluation.iou} <= set(text)
    assert all(f"background:{colour}" in page for colour in FLAIR_12.colours)
    assert any("1.235 (limit 2.5)" in line for line in text)


def test_the_report_needs_no_network_and_no_script(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING)
    allowed = "html meta title style body h1 h2 p div i table thead tbody tr th td svg line circle text"
    assert Outline(page).tags <= set(allowed.split())
    assert not re.search(r"https?:|url\(|@import", page)


def test_rows_of_the_confusion_matrix_are_per_cent_of_the_reference(evaluation: Evaluation) -> None:
    text = Outline(render_report(evaluation, {})).text
    start = text.index(
        "Rows are reference classes, columns are predicted classes. A cell is per cent of its row."
    )
    cells = [cell for cell in text[start:] if cell.isdigit()][: 13 * 13]
    matrix = evaluation.matrix
    expected = np.rint(100 * matrix / matrix.sum(axis=1, keepdims=True)).astype(int)
    np.testing.assert_array_equal(np.array(cells, int).reshape(13, 13), expected)


def test_the_most_frequent_confusions_are_told_in_words(evaluation: Evaluation) -> None:
    matrices = evaluation.matrices.copy()
    matrices[0, 10, 9] += 100_000
    changed = Evaluation(FLAIR_12, evaluation.ids, evaluation.domains, evaluation.areas, matrices)
    matrix = changed.matrix
    share = matrix[10, 9] / matrix[10].sum()
    errors = matrix[10, 9] / (matrix.sum() - np.trace(matrix))
    text = Outline(render_report(changed, {})).text
    told = [line for line in text if " was predicted as " in line]
    assert len(told) == 5
    expected = (
        f"{share:.1%} of agricultural land was predicted as herbaceous vegetation: "
        f"{errors:.1%} of all errors."
    )
    assert told[0] == expected


def test_the_baseline_is_shown_beside_each_class(evaluation: Evaluation) -> None:
    page = render_report(evaluation, {})
    assert page.count('<i style="left:') == 12
    assert '<i style="left:83.7%"></i>' in page  # building, datapaper Table V
    assert "mIoU 0.5758 (datapaper, Table V)" in page


def test_latencies_are_drawn_with_the_limit_of_a_request(evaluation: Evaluation) -> None:
    timing = TIMING | {"latencies_ms": [10.0, 11.0, 30.0], "requests": 3, "reference_seconds": 0.03}
    page = render_report(evaluation, timing)
    assert "limit 25" in Outline(page).text  # 2.5 x 30 ms over 3 requests
    counts = re.findall(r"<rect [^>]*><title>(\d+)</title></rect>", page)
    assert (len(counts), sum(map(int, counts))) == (40, 3)
    assert "Latency" not in Outline(render_report(evaluation, TIMING)).text


@pytest.mark.parametrize("key", ["sandbox", "cage"])
def test_the_level_of_the_sandbox_is_read_under_its_earlier_key_too(
    evaluation: Evaluation, tmp_path: Path, key: str
) -> None:
    """Kit 0.1.0 first called it `cage` in timing.json."""
    (tmp_path / "timing.json").write_text(json.dumps(TIMING | {key: "full"}))
    timing = read_timing(tmp_path)
    assert timing["sandbox"] == "full"
    text = Outline(render_report(evaluation, timing)).text
    assert text[text.index("inference: sandbox") + 1 :][:1] == ["full"]
    assert "inference: cage" not in text


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
    assert "Neither in the references nor in the predictions: vineyard." in page
    assert "nan" not in page
    (line,) = [line for line in render_text(without).splitlines() if line.startswith("vineyard")]
    assert line.split()[1:] == ["-", "-", "-", "-", "0.00%"]
