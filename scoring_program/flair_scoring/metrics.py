"""Metrics of a confusion matrix, (K+1, K+1) pixel counts: rows are the reference, columns the prediction.

The first K classes are scored. The last one, *other*, is not, but it stays in the matrix: a class predicted
where the reference is *other* is a false positive, as in the challenge's own scorer. An undefined value
(0 / 0) is NaN.
"""

from __future__ import annotations

import numpy as np


def class_counts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each scored class: the pixels that are right, predicted and in the reference; float64 (..., K) each.

    Exact up to 2^53 pixels. `matrix` may be a stack of matrices.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    scored = matrix.shape[-1] - 1
    predicted = matrix.sum(axis=-2)[..., :scored]
    actual = matrix.sum(axis=-1)[..., :scored]
    return np.diagonal(matrix, axis1=-2, axis2=-1)[..., :scored], predicted, actual


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each scored class, TP / (TP + FP + FN).

    Args:
        matrix: Pixel counts (K+1, K+1) as `confusion_matrix` returns them, or a stack (..., K+1, K+1).

    Returns:
        float64 (K,), or (..., K) of a stack. NaN for a class that occurs neither in the reference nor in the
        prediction.

    Example:
        >>> import numpy as np
        >>> from flair_scoring import iou
        >>> iou(np.array([[6, 2, 0],  # of 8 pixels of class 0, 2 were taken for class 1
        ...               [0, 4, 0],
        ...               [1, 0, 5]]))  # *other*: 1 of its pixels was taken for class 0
        array([0.66666667, 0.66666667])
    """
    hits, predicted, actual = class_counts(matrix)
    return _divide(hits, predicted + actual - hits)


def precision(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP + FP) of each scored class, float64 (K,); NaN for a class that was never predicted."""
    hits, predicted, _ = class_counts(matrix)
    return _divide(hits, predicted)


def recall(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP + FN) of each scored class, float64 (K,); NaN for a class without reference pixels."""
    hits, _, actual = class_counts(matrix)
    return _divide(hits, actual)


def f1(matrix: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of each scored class, float64 (K,); NaN where `iou` is NaN."""
    hits, predicted, actual = class_counts(matrix)
    return _divide(2 * hits, predicted + actual)


def mean_iou(matrix: np.ndarray) -> float:
    """The mean of `iou` over the scored classes that occur: the score of the challenge.

    Args:
        matrix: Pixel counts (K+1, K+1) as `confusion_matrix` returns them. The last row and column are
            *other*, which is not scored.

    Returns:
        A number from 0 to 1; NaN if no scored class occurs.

    Example:
        >>> import numpy as np
        >>> from flair_scoring import mean_iou
        >>> mean_iou(np.array([[6, 2, 0, 0],
        ...                    [0, 4, 0, 0],
        ...                    [0, 0, 0, 0],  # this class does not occur, and the mean leaves it out
        ...                    [0, 0, 0, 7]]))  # *other*
        0.7083333333333333
    """
    values = iou(matrix)
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else float("nan")


def mean_iou_without_other(matrix: np.ndarray) -> float:
    """`mean_iou` without the pixels whose reference is *other*: a figure for comparison, not the score."""
    return mean_iou(np.asarray(matrix)[:-1])


def overall_accuracy(matrix: np.ndarray) -> float:
    """Share of all pixels, *other* included, whose class is right."""
    return float(np.trace(matrix) / np.sum(matrix))


def jackknife_interval(matrices: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mIoU for new domains, within 0..1, from one matrix for each domain, (D, K+1, K+1).

    The jackknife leaves out one domain at a time; the interval follows Student's t with D - 1 degrees of
    freedom. A replicate averages the classes that occur in its domains. The result is None below three
    domains, or if without one domain no scored class occurs.
    """
    domains = len(matrices)
    if domains < 3:
        return None
    total = matrices.sum(axis=0, dtype=np.int64)
    replicates = np.array([mean_iou(total - matrix) for matrix in matrices])
    if np.isnan(replicates).any():
        return None
    centre, reach = mean_iou(total), jackknife_reach(replicates, level)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def jackknife_reach(replicates: np.ndarray, level: float = 0.95) -> float:
    """Half the width of the jackknife's interval, from the D figures that each leave out one of D domains."""
    from scipy.special import stdtrit  # slow to import, and only needed here

    error = np.sqrt((len(replicates) - 1) * replicates.var())
    return float(error * stdtrit(len(replicates) - 1, (1 + level) / 2))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
