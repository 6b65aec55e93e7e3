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
from flair_scoring.report.html import heat, render_page, table
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
    domains = [line for line in text if re.fullmatch(r"D\d{3}_\d{4}", line)]
    mious = [mean_iou(evaluation.domain_matrices[domain]) for domain in domains]
    assert sorted(domains) == ["D015_2020", "D022_2021", "D061_2020"]
    assert mious == sorted(mious, reverse=True)
    assert {f"{value:.4f}" for value in evaluation.iou} <= set(text)
    assert all(f"background:{colour}" in page for colour in FLAIR_12.colours)
    assert "1.235 " in text
    assert "Within the limit of 2.5 times. Inference took 80.0 s." in text
    assert "width:49.4%" in page  # of the bar whose end is the limit: 1.23456 / 2.5


def test_the_report_needs_no_network_and_no_script(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING)
    allowed = "html meta title style body h1 h2 p div i b small span ul li table thead tbody tr th td"
    allowed += " details summary"
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
    classes = page[page.index("<h2>Classes") : page.index("<h2>Domains")]
    assert classes.count('<i style="left:') == 12
    assert '<i style="left:83.7%"></i>' in page  # building, datapaper Table V
    assert "mIoU 0.5758 (datapaper, Table V)" in page


def read_histogram(page: str) -> tuple[list[int], list[tuple[float, float]]]:
    """The numbers of requests in the bars, and the ticks: place from 0 to 1, and milliseconds."""
    chart = page[page.index('<div class="bins">') : page.index("milliseconds")]
    counts = [
        int(count)
        for count in re.findall(r'<b style="height:max\([\d.]+%, [02]px\)" title="(\d+)"></b>', chart)
    ]
    ticks = re.findall(r'<span class="\w+" style="left:([\d.]+)%">([^<]+)</span>', chart)
    return counts, [(float(place) / 100, float(label.replace(",", ""))) for place, label in ticks]


def test_a_limit_near_the_latencies_is_drawn(evaluation: Evaluation) -> None:
    timing = TIMING | {"latencies_ms": [10.0, 11.0, 30.0], "requests": 3, "reference_seconds": 0.03}
    page = render_report(evaluation, timing)
    said = "3 requests, is 25.0 ms."  # 2.5 x 30 ms over 3 requests
    assert any(said in line for line in Outline(page).text)
    counts, ticks = read_histogram(page)
    assert sum(counts) == 3
    (place,) = re.findall(r'<i style="left:([\d.]+)%" title="limit">', page)
    (first, low), (last, high) = ticks[0], ticks[-1]
    assert (first, last) == (0, 1)
    assert low + float(place) / 100 * (high - low) == pytest.approx(25, abs=0.01)
    assert "Latency" not in Outline(render_report(evaluation, TIMING)).text


def test_latencies_far_below_the_limit_fill_their_axis(evaluation: Evaluation) -> None:
    latencies = [190.0 + number for number in range(40)]
    timing = TIMING | {"latencies_ms": latencies, "requests": 40, "reference_seconds": 160.0}
    page = render_report(evaluation, timing)
    said = "is 10,000 ms, 44 times the slowest: it lies outside of this chart."
    assert any(said in line for line in Outline(page).text)
    counts, ticks = read_histogram(page)
    assert sum(counts) == 40
    assert sum(count > 0 for count in counts) > 0.7 * len(counts)
    assert ticks[0][1] <= 190
    assert 229 <= ticks[-1][1] <= 260
    assert 'title="limit"' not in page


@pytest.mark.parametrize(
    ("latencies", "logarithmic"),
    [
        ([20.0] * 99 + [4000.0], True),
        ([0.0, 5.0], False),
        ([0.0], False),
        ([5e-324, 5e-324, 1e9], True),
        ([7.0], False),
    ],
)
def test_latencies_of_every_kind_lie_where_the_axis_says(
    evaluation: Evaluation, latencies: list[float], logarithmic: bool
) -> None:
    timing = {"latencies_ms": latencies, "requests": len(latencies)}
    page = render_report(evaluation, timing)
    assert ("logarithmic" in page) == logarithmic
    counts, ticks = read_histogram(page)
    assert sum(counts) == len(latencies)
    assert 2 <= len(ticks) <= 8
    assert ticks[0][1] <= max(min(latencies), max(latencies) / 1e6)
    assert ticks[-1][1] >= max(latencies)
    assert [place for place, _ in ticks] == sorted(place for place, _ in ticks)


@pytest.mark.parametrize(
    ("timing", "said", "width"),
    [
        ({"ratio": 0.05, "limit_ratio": 2.5}, "Within the limit of 2.5 times.", "width:2.0%"),
        ({"inference_seconds": 30.0, "limit_seconds": 60}, "Within the limit of 60.0 s.", "width:50.0%"),
        (
            {"ratio": 1.0, "limit_ratio": 2.0, "inference_seconds": 54.0, "limit_seconds": 60.0},
            "Within the limit of 2 times and 60.0 s. Inference took 54.0 s.",
            "width:90.0%",  # of the limit that is nearer
        ),
        ({"inference_seconds": 30.0}, "There was no limit.", None),
        (
            {"inference_seconds": 0.4, "floor_seconds": 0.5},
            "There was no limit. That is less than the 0.50 s in which the GPU can receive the aerial images "
            "and read the submission's weights once for each request: the submission deserves a look.",
            None,
        ),
        ({"inference_seconds": 0.6, "floor_seconds": 0.5}, "There was no limit.", None),
        ({}, "not timed", None),
    ],
)
def test_the_time_is_a_bar_of_its_limit(
    evaluation: Evaluation, timing: dict[str, float], said: str, width: str | None
) -> None:
    page = render_report(evaluation, timing)
    assert said in Outline(page).text
    assert ('class="gauge"' in page) == (width is not None)
    assert width is None or width in page


def test_how_it_was_computed_is_folded_and_rounded(evaluation: Evaluation) -> None:
    page = render_report(evaluation, TIMING | {"order_seed": 37134159299644})
    folded = page[page.index("<details>") : page.index("</details>")]
    assert "How it was computed" in folded
    assert ">1.235<" in folded
    assert ">37134159299644<" in folded


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
    assert "<img" not in render_page(HOSTILE, table([HOSTILE], [[HOSTILE, HOSTILE, heat(0.5, HOSTILE)]]))


def test_absent_classes_are_named(evaluation: Evaluation) -> None:
    matrices = evaluation.matrices.copy()
    matrices[:, 8, :] = matrices[:, :, 8] = 0
    without = Evaluation(FLAIR_12, evaluation.ids, evaluation.domains, evaluation.areas, matrices)
    page = render_report(without, {})
    assert "Neither in the references nor in the predictions: vineyard." in page
    assert "nan" not in page
    row = page[page.index("<tr><th>vineyard</th>") :].split("</tr>")[0]
    assert 'class="track"></td>' in row  # no bar, and no bar of length 0
    (line,) = [line for line in render_text(without).splitlines() if line.startswith("vineyard")]
    assert line.split()[1:] == ["-", "-", "-", "-", "0.00%"]
