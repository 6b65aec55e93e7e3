"""--compare: the differences, their interval and test, and what cannot be compared."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outline import Outline
from sample_patches import Patches, random_mask
from scipy import stats

from flair_scoring import Evaluation, mean_iou
from flair_scoring.base.errors import DataError, FlairError
from flair_scoring.metrics import iou
from flair_scoring.nomenclature import FLAIR_12, FLAIR_18
from flair_scoring.outputs.matrices import encode_matrices
from flair_scoring.ranking.comparison import compare, read_other
from flair_scoring.ranking.permutation import permutation_test
from flair_scoring.raster import write_labels
from flair_scoring.report.differences import describe_difference
from flair_scoring.report.result import render_report, render_text

SCORE = Path(__file__).resolve().parents[2] / "scoring_program" / "score.py"
HOSTILE = "<img src=x onerror=alert(1)>"


def make_evaluation(domains: int, wrong: float, seed: int = 0) -> Evaluation:
    """One patch in each domain; the references are the same for all `wrong`, a share of pixels."""
    actual = np.random.default_rng(0).multinomial(512 * 512, np.full(13, 1 / 13), domains)
    matrices = np.zeros((domains, 13, 13), np.uint32)
    rng = np.random.default_rng(seed)
    for matrix, row in zip(matrices, actual, strict=True):
        for index, pixels in enumerate(row):
            moved = rng.binomial(pixels, wrong * rng.random())
            matrix[index] = rng.multinomial(moved, np.full(13, 1 / 13))
            matrix[index, index] += pixels - moved
    names = tuple(f"D{number:03d}_2020" for number in range(domains))
    ids = tuple(f"{number:06d}" for number in range(domains))
    checksums = np.arange(domains, dtype=np.uint32)
    return Evaluation(FLAIR_12, ids, names, ("Z1_UU",) * domains, matrices, reference_checksums=checksums)


def store(evaluation: Evaluation, folder: Path, per_domain: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "confusion.npz").write_bytes(encode_matrices(evaluation, per_domain))
    return folder


@pytest.mark.parametrize("per_domain", [False, True])
def test_figures_are_those_of_the_two_results(tmp_path: Path, per_domain: bool) -> None:
    own, other = make_evaluation(8, 0.3, 1), make_evaluation(8, 0.4, 2)
    found = compare(own, read_other(store(other, tmp_path / "rival", per_domain)))
    assert found.name == "rival"
    assert found.total.difference == pytest.approx(own.miou - other.miou, abs=1e-12)
    np.testing.assert_allclose([row.difference for row in found.classes], own.iou - other.iou)
    for row in found.domains:
        expected = mean_iou(own.domain_matrices[row.name]) - mean_iou(other.domain_matrices[row.name])
        assert row.difference == pytest.approx(expected, abs=1e-12)
    assert [row.name for row in found.domains] == sorted(own.domains)


def test_the_interval_is_that_of_pseudo_values(tmp_path: Path) -> None:
    """Student's interval of Tukey's pseudo-values, by scipy."""
    own, other = make_evaluation(9, 0.3, 1), make_evaluation(9, 0.35, 2)
    found = compare(own, read_other(store(other, tmp_path / "rival")))
    whole = own.miou - other.miou
    kept = ~np.eye(9, dtype=bool)
    pseudo = np.array(
        [
            9 * whole - 8 * (mean_iou(own.matrices[k].sum(axis=0)) - mean_iou(other.matrices[k].sum(axis=0)))
            for k in kept
        ]
    )
    low, high = stats.t.interval(0.95, 8, loc=whole, scale=stats.sem(pseudo))
    assert found.interval == pytest.approx((low, high), abs=1e-9)
    assert found.p_value == permutation_test(own.matrices, other.matrices)


@pytest.mark.parametrize(
    ("domains", "interval", "test"), [(2, False, False), (3, True, False), (6, True, True)]
)
def test_interval_and_test_need_domains(tmp_path: Path, domains: int, interval: bool, test: bool) -> None:
    own, other = make_evaluation(domains, 0.1, 1), make_evaluation(domains, 0.6, 2)
    found = compare(own, read_other(store(other, tmp_path / "rival")))
    assert (found.interval is not None, found.p_value is not None) == (interval, test)
    said = describe_difference(found)
    assert ("95 % interval" in said) == interval
    assert ("is more than chance explains" in said) == test
    assert ("too few domains" in said) == (not test)


def test_references_without_domains_are_compared_as_a_whole(tmp_path: Path) -> None:
    own, other = (replace(make_evaluation(4, 0.3, seed), domains=("",) * 4) for seed in (1, 2))
    found = compare(own, read_other(store(other, tmp_path / "rival")))
    assert found.total.difference == pytest.approx(own.miou - other.miou)
    assert (found.domains, found.interval, found.p_value) == ([], None, None)
    assert "domain" not in describe_difference(found)


def test_the_page_lists_gains_first_and_then_losses(tmp_path: Path) -> None:
    own, other = make_evaluation(6, 0.3, 1), make_evaluation(6, 0.3, 2)
    found = compare(own, read_other(store(other, tmp_path / "rival")))
    page = render_report(own, {}, comparison=found)
    section = page[page.index("Difference from rival") : page.index("<h2>Classes")]
    for names, expected in (
        (FLAIR_12.classes, own.iou - other.iou),
        (own.domains, [mean_iou(a) - mean_iou(b) for a, b in zip(own.matrices, other.matrices, strict=True)]),
    ):
        rows = [re.search(rf"<tr><th>{name}</th>.*?</tr>", section) for name in names]
        shown = {}
        for name, row, value in zip(names, rows, expected, strict=True):
            assert row
            assert f"<td>{value:+.4f}</td>" in row[0]
            assert ('class="gain"' if value >= 0 else 'class="loss"') in row[0]
            shown[name] = row.start()
        order = sorted(names, key=lambda name: shown[name])
        assert order == [name for _, name in sorted(zip(-np.array(expected), names, strict=True))]
    assert render_text(own, found).splitlines()[-2:] == [
        f"difference: {describe_difference(found)}",
        f"mIoU: {own.miou:.4f}",
    ]
    assert "Difference from" not in render_report(own, {})


def test_bars_are_as_long_as_the_differences(tmp_path: Path) -> None:
    own, other = make_evaluation(3, 0.3, 1), make_evaluation(3, 0.5, 2)
    page = render_report(own, {}, comparison=compare(own, read_other(store(other, tmp_path / "rival"))))
    section = page[page.index("Difference from rival") : page.index("<th>domain</th>")]
    reach = float(re.search(r">\+([\d.]+)</span>", section)[1])  # type: ignore[index]
    for name, value in zip(FLAIR_12.classes, own.iou - other.iou, strict=True):
        left, width = map(
            float,
            re.search(rf"<th>{name}</th>.*?left:([\d.]+)%;width:([\d.]+)%", section).groups(),  # type: ignore[union-attr]
        )
        assert width == pytest.approx(50 * abs(value) / reach, abs=0.01)
        assert left == pytest.approx(50 if value >= 0 else 50 - width, abs=0.02)


def test_a_class_that_only_one_result_predicts_is_named(tmp_path: Path) -> None:
    own, other = make_evaluation(3, 0.0), make_evaluation(3, 0.0)
    for evaluation in (own, other):
        evaluation.matrices[:, 9, 9] += evaluation.matrices[:, 8, 8]
        evaluation.matrices[:, 8, 8] = 0
    own.matrices[:, 9, 9] -= 5
    own.matrices[:, 9, 8] += 5
    page = render_report(own, {}, comparison=compare(own, read_other(store(other, tmp_path / "rival"))))
    assert "Only one of the two results predicts vineyard, which no reference holds." in page
    assert np.isnan(iou(other.matrix)[8])
    assert "nan" not in page


def test_a_strange_name_is_shown_and_not_run(tmp_path: Path) -> None:
    own = make_evaluation(3, 0.2)
    page = render_report(own, {}, comparison=compare(own, read_other(store(own, tmp_path / HOSTILE))))
    assert "<img" not in page
    assert f"Difference from {HOSTILE}" in Outline(page).text


def test_other_references_and_classes_are_refused(tmp_path: Path) -> None:
    own = make_evaluation(3, 0.2)
    other = make_evaluation(3, 0.2)
    changed = replace(other, reference_checksums=np.array([0, 7, 2], np.uint32))
    with pytest.raises(
        DataError, match=r"rival: was scored on other references .*, which differ in D001_2020;"
    ):
        compare(own, read_other(store(changed, tmp_path / "rival")))
    more = replace(
        other,
        ids=(*other.ids, "000009"),
        domains=(*other.domains, "D009_2020"),
        areas=(*other.areas, ""),
        matrices=np.concatenate([other.matrices, other.matrices[:1]]),
        reference_checksums=np.array([0, 1, 2, 3], np.uint32),
    )
    with pytest.raises(DataError, match="which differ in D009_2020;"):
        compare(own, read_other(store(more, tmp_path / "rival")))
    flat = replace(other, domains=("", "", ""))
    with pytest.raises(DataError, match="was scored on other references"):
        compare(own, read_other(store(flat, tmp_path / "rival")))
    wider = np.zeros((3, 19, 19), np.uint32)
    wider[:, :13, :13] = other.matrices
    eighteen = replace(other, nomenclature=FLAIR_18, matrices=wider)
    with pytest.raises(DataError, match="rival: scores 18 classes, and this result 12;"):
        compare(own, read_other(store(eighteen, tmp_path / "rival")))


WRONG = {
    "scores.json": (lambda folder: folder.write_text("{}"), "is a file, and not a confusion.npz"),
    "nowhere": (lambda folder: None, "no such folder"),
    "empty": (lambda folder: folder.mkdir(), "holds no confusion.npz"),
    "damaged": (
        lambda folder: (folder.mkdir(), (folder / "confusion.npz").write_bytes(b"PK")),
        "not a whole",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_result_is_named_with_advice(tmp_path: Path, kind: str) -> None:
    damage, said = WRONG[kind]
    damage(tmp_path / kind)
    with pytest.raises(FlairError, match=said) as caught:
        read_other(tmp_path / kind)
    assert caught.value.exit_code == 2
    assert kind in str(caught.value)


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCORE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done


def test_the_command_compares_and_refuses(patches: Patches, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert score(patches.predictions, patches.references, "--output", first).returncode == 0
    write_labels(patches.prediction("080001"), np.zeros((512, 512), np.uint8))
    done = score(patches.predictions, patches.references, "--output", second, "--compare", first)
    assert done.returncode == 0, done.stderr
    *_, difference, miou = done.stdout.splitlines()
    assert re.match(r"difference: -0\.\d{4} mIoU, .* in first\.", difference)
    assert miou.startswith("mIoU: ")
    assert "Difference from first" in (second / "detailed_results.html").read_text()

    kept = (first / "confusion.npz").read_bytes()
    done = score(patches.predictions, patches.references, "--output", first, "--compare", first)
    assert done.returncode == 2
    assert "holds the result of --compare" in done.stderr
    assert (first / "confusion.npz").read_bytes() == kept

    write_labels(patches.reference("080001"), random_mask(9))
    done = score(patches.predictions, patches.references, "--output", second, "--compare", first)
    assert done.returncode == 2
    assert "first: was scored on other references than this result, which differ in D022_2021" in done.stderr
    assert {path.name for path in second.iterdir()} == {"detailed_results.html"}
    assert "Difference from" not in (second / "detailed_results.html").read_text()

    done = score(patches.predictions, patches.references, "--platform", "--compare", first)
    assert done.returncode == 2
    assert "without --platform" in done.stderr
