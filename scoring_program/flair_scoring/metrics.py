"""Metrics of a confusion matrix, (K+1, K+1) pixel counts: rows are the reference, columns the prediction.

The first K classes are scored. The last one, *other*, stays in the matrix: a class predicted on *other*
ground is a false positive, as in the challenge's own scorer. A value that is undefined (0 / 0) is NaN.
"""

from __future__ import annotations

import numpy as np


def class_counts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per scored class: pixels that are right, predicted pixels, reference pixels, each float64 (..., K).

    Exact up to 2^53 pixels. `matrix` may be a stack of matrices.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    scored = matrix.shape[-1] - 1
    predicted = matrix.sum(axis=-2)[..., :scored]
    actual = matrix.sum(axis=-1)[..., :scored]
    return np.diagonal(matrix, axis1=-2, axis2=-1)[..., :scored], predicted, actual


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union per scored class, TP / (TP + FP + FN), float64 (K,).

    NaN for a class that occurs neither in the reference nor in the prediction. A stack of matrices,
    (..., K+1, K+1), has one row for each, (..., K).
    """
    hits, predicted, actual = class_counts(matrix)
    return _divide(hits, predicted + actual - hits)


def precision(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP + FP) per scored class, float64 (K,); NaN for a class that was never predicted."""
    hits, predicted, _ = class_counts(matrix)
    return _divide(hits, predicted)


def recall(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP + FN) per scored class, float64 (K,); NaN for a class without reference pixels."""
    hits, _, actual = class_counts(matrix)
    return _divide(hits, actual)


def f1(matrix: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) per scored class, float64 (K,); NaN where `iou` is NaN."""
    hits, predicted, actual = class_counts(matrix)
    return _divide(2 * hits, predicted + actual)


def mean_iou(matrix: np.ndarray) -> float:
    """Mean of `iou` over the scored classes that occur; NaN if none does.

    `matrix` is (K+1, K+1), as `confusion_matrix` makes it: its last row and column are *other*, not a class.
    """
    values = iou(matrix)
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else float("nan")


def mean_iou_without_other(matrix: np.ndarray) -> float:
    """`mean_iou` without the pixels whose reference is *other*; for comparison, never the score."""
    return mean_iou(np.asarray(matrix)[:-1])


def overall_accuracy(matrix: np.ndarray) -> float:
    """Share of all pixels, *other* included, whose class is right."""
    return float(np.trace(matrix) / np.sum(matrix))


def jackknife_interval(matrices: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mIoU for new domains from one matrix per domain, (D, K+1, K+1), within 0..1.

    Leave-one-domain-out jackknife, Student's t with D - 1 degrees of freedom. The classes that are averaged
    are those of all domains together; a replicate without one of them averages the others. None below three
    domains, or if one domain holds all scored classes alone.
    """
    domains = len(matrices)
    if domains < 3:
        return None
    total = matrices.sum(axis=0, dtype=np.int64)
    replicates = np.array([mean_iou(total - matrix) for matrix in matrices])
    if np.isnan(replicates).any():
        return None
    from scipy.special import stdtrit  # slow to import, and only needed here

    error = np.sqrt((domains - 1) * replicates.var())
    reach = float(error * stdtrit(domains - 1, (1 + level) / 2))
    centre = mean_iou(total)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
