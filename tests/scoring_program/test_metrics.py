"""The metrics equal the official definition, scikit-learn and the paper's table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, jaccard_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_matrix

from flair_scoring import iou, mean_iou
from flair_scoring.metrics import (
    f1,
    jackknife_interval,
    mean_iou_without_other,
    overall_accuracy,
    precision,
    recall,
)

# Datapaper, Table V: IoU of the twelve classes and the mIoU, best runs
TABLE_5 = {
    "U-Net": (".8009 .4727 .6988 .3076 .7985 .5758 .7014 .2392 .6012 .4653 .5449 .3583", 0.5470),
    "U-T&T": (".8285 .4980 .7204 .2982 .8009 .6041 .7189 .2541 .6580 .4684 .5478 .3157", 0.5594),
    "U-T&T best": (".8368 .4995 .7446 .3959 .7952 .6339 .7239 .2485 .6678 .4750 .5513 .3381", 0.5758),
}


def official_miou(masks: list[np.ndarray], predictions: list[np.ndarray]) -> float:
    """The challenge's procedure: one 13 x 13 matrix per patch, the mean over classes defined in the sum."""
    total = np.zeros((13, 13))
    for mask, prediction in zip(masks, predictions, strict=True):
        truth = mask.astype(int) - 1
        truth[truth > 12] = 12
        total += sklearn_matrix(truth.ravel(), prediction.ravel(), labels=list(range(13)))
    with np.errstate(invalid="ignore"):
        ious = np.diag(total) / (total.sum(axis=0) + total.sum(axis=1) - np.diag(total))
    return float(np.nanmean(ious[:12]))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks (1..19) and predictions (0..12) of a few patches in which classes may be absent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.lists(st.integers(1, 19), min_size=1, max_size=6))
    answers = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    patches = draw(st.integers(1, 4))
    values[0] = min(values[0], 12)  # at least one scored class
    masks = [rng.choice(values, (8, 8)).astype(np.uint8) for _ in range(patches)]
    masks[0][0, 0] = values[0]
    return masks, [rng.choice(answers, (8, 8)).astype(np.uint8) for _ in range(patches)]


def matrix_of(masks: list[np.ndarray], predictions: list[np.ndarray]) -> np.ndarray:
    truth = np.minimum(np.stack(masks) - 1, 12)
    return sklearn_matrix(truth.ravel(), np.stack(predictions).ravel(), labels=range(13))


@given(scenes())
def test_miou_is_the_official_one(scene: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    assert mean_iou(matrix_of(*scene)) == pytest.approx(official_miou(*scene), abs=1e-12)


@given(scenes())
def test_metrics_are_scikit_learns(scene: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    matrix = matrix_of(*scene)
    truth, answer = np.minimum(np.stack(scene[0]) - 1, 12).ravel(), np.stack(scene[1]).ravel()
    expected = precision_recall_fscore_support(truth, answer, labels=range(12), zero_division=np.nan)
    for ours, theirs in zip((precision(matrix), recall(matrix), f1(matrix)), expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    occurring = ~np.isnan(iou(matrix))
    jaccard = jaccard_score(truth, answer, labels=range(12), average=None, zero_division=0)
    np.testing.assert_allclose(np.nan_to_num(iou(matrix)), jaccard, rtol=0, atol=1e-12)
    assert set(np.flatnonzero(occurring)) == (set(truth) | set(answer)) - {12}
    assert overall_accuracy(matrix) == pytest.approx(accuracy_score(truth, answer), abs=1e-12)


@pytest.mark.parametrize("model", TABLE_5)
def test_miou_of_table_5_follows_from_its_classes(model: str) -> None:
    ious, expected = np.array(TABLE_5[model][0].split(), float), TABLE_5[model][1]
    matrix = np.zeros((13, 13), np.int64)
    matrix[range(12), range(12)] = np.rint(10_000 * ious)
    matrix[range(12), 12] = 10_000 - np.rint(10_000 * ious)  # misses
    np.testing.assert_allclose(iou(matrix), ious, rtol=0, atol=1e-12)
    assert mean_iou(matrix) == pytest.approx(expected, abs=1e-4)


def test_a_matrix_worked_by_hand() -> None:
    # two classes and other:  predicted a, b, other
    matrix = np.array([[6, 1, 1], [0, 3, 1], [2, 0, 5]])
    np.testing.assert_allclose(iou(matrix), [6 / (8 + 8 - 6), 3 / (4 + 4 - 3)])
    assert mean_iou(matrix) == pytest.approx((0.6 + 0.6) / 2)
    np.testing.assert_allclose(precision(matrix), [6 / 8, 3 / 4])
    np.testing.assert_allclose(recall(matrix), [6 / 8, 3 / 4])
    assert overall_accuracy(matrix) == pytest.approx(14 / 19)
    assert mean_iou_without_other(matrix) == pytest.approx((6 / (6 + 8 - 6) + 3 / 5) / 2)  # 2 false a's less


def test_counts_beyond_32_bits_stay_exact() -> None:
    matrix = np.full((13, 13), 2**31, np.uint32)
    np.testing.assert_allclose(iou(matrix), 1 / 25)


def test_no_scored_class_has_no_miou() -> None:
    matrix = np.zeros((13, 13), np.int64)
    matrix[12, 12] = 100
    assert np.isnan(mean_iou(matrix))


def domains(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, (count, 13, 13)) + np.eye(13, dtype=int) * 2000


@pytest.mark.parametrize("count", [3, 10, 50])
def test_interval_is_the_jackknifes_from_pseudo_values(count: int) -> None:
    matrices = domains(count)
    whole = mean_iou(matrices.sum(axis=0))
    left_out = [mean_iou(np.delete(matrices, index, axis=0).sum(axis=0)) for index in range(count)]
    pseudo_values = [count * whole - (count - 1) * value for value in left_out]
    reach = stats.sem(pseudo_values) * stats.t.ppf(0.975, count - 1)
    assert jackknife_interval(matrices) == pytest.approx((whole - reach, whole + reach), abs=1e-12)


def test_interval_of_a_class_that_one_domain_holds_averages_the_others() -> None:
    matrices = domains(4)
    matrices[:, 5, :] = matrices[:, :, 5] = 0
    matrices[0, 5, 5] = 700
    replicates = [mean_iou(np.delete(matrices, index, axis=0).sum(axis=0)) for index in range(4)]
    without_class = np.delete(np.delete(matrices[1:].sum(axis=0), 5, axis=0), 5, axis=1)
    assert replicates[0] == pytest.approx(mean_iou(without_class))
    assert jackknife_interval(matrices) is not None


def test_no_interval_where_it_would_mean_nothing() -> None:
    alone = np.zeros((3, 13, 13), np.int64)
    alone[:, 12, 12] = 5
    alone[0, 0, 0] = 5
    assert jackknife_interval(domains(2)) is None
    assert jackknife_interval(alone) is None
    same = np.repeat(domains(1), 4, axis=0)
    assert jackknife_interval(same) == pytest.approx((mean_iou(same[0]),) * 2)
