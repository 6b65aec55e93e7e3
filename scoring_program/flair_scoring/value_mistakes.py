"""Signs that rasters hold annotation values in place of class indices, or indices in place of values.

Both are valid files, so they are scored as they are; a note tells what the score would be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flair_scoring.metrics import mean_iou
from flair_scoring.nomenclature import MAX_FLAIR_VALUE, Nomenclature

_FACTOR, _GAIN = 2, 0.1  # a mIoU is far better if it is so many times as high, and higher by so much


def describe_value_mistakes(matrix: np.ndarray, zeros: int, nomenclature: Nomenclature) -> Iterator[str]:
    """Sentences about what was probably meant; none for most evaluations.

    `matrix` is the sum of all patches, (K+1, K+1). `zeros` are the reference pixels of value 0, which count
    in its last row.
    """
    other, first = nomenclature.other, nomenclature.classes[0]
    value = int(np.flatnonzero(nomenclature.index_of == 0)[0])
    now = mean_iou(matrix)
    read = _read_as_values(matrix, nomenclature)
    if _far_better(would := mean_iou(read), now):
        zero = ", and 0 as other," if matrix[:, 0].any() else ""
        yield (
            f"If predictions were read as FLAIR's annotation values 1..{MAX_FLAIR_VALUE}{zero} their mIoU "
            f"would be {would:.4f} instead of {now:.4f}. Predictions must hold class indices: {first} is 0, "
            f"not {value}."
        )
    in_order = np.array_equal(nomenclature.index_of[1 : other + 1], range(other))
    read = np.roll(matrix, 1, axis=0)  # 0, which counts as *other*, would be the first class
    if in_order and 0 < zeros == matrix[-1].sum() and _far_better(would := mean_iou(read), now):
        yield (
            f"References hold 0 and nothing above {other}; read as class indices 0..{other} the mIoU would "
            f"be {would:.4f} instead of {now:.4f}. References must hold FLAIR's annotation values: {first} "
            f"is {value}, not 0."
        )


def _read_as_values(matrix: np.ndarray, nomenclature: Nomenclature) -> np.ndarray:
    """The matrix if the labels predicted were annotation values; 0, which is none, counts as *other*."""
    read = np.zeros_like(matrix)
    for label, index in enumerate(nomenclature.index_of[: len(matrix)]):
        read[:, index] += matrix[:, label]
    return read


def _far_better(would: float, now: float) -> bool:
    return would > max(_FACTOR * now, now + _GAIN)
