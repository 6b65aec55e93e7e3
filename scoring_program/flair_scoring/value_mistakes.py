"""Signs that predictions hold annotation values instead of class indices, or references indices.

Such files are valid and are scored as they are. A note tells what the score would be if they were read in the
other way.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flair_scoring.metrics import mean_iou
from flair_scoring.nomenclature import MAX_FLAIR_VALUE, Nomenclature

_FACTOR, _GAIN = 2, 0.1  # another reading is noted if the mIoU is more than doubled and rises by over 0.1


def describe_value_mistakes(matrix: np.ndarray, zeros: int, nomenclature: Nomenclature) -> Iterator[str]:
    """Sentences about how the files were probably meant; most evaluations get none.

    `matrix` is the sum over all patches, (K+1, K+1). `zeros` is the number of reference pixels of value 0,
    which the last row of the matrix counts.
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
    read = np.roll(matrix, 1, axis=0)  # 0 counts in the last row, as *other*, and would be the first class
    if in_order and 0 < zeros == matrix[-1].sum() and _far_better(would := mean_iou(read), now):
        yield (
            f"References hold 0 and nothing above {other}; read as class indices 0..{other} the mIoU would "
            f"be {would:.4f} instead of {now:.4f}. References must hold FLAIR's annotation values: {first} "
            f"is {value}, not 0."
        )


def _read_as_values(matrix: np.ndarray, nomenclature: Nomenclature) -> np.ndarray:
    """The matrix if the predicted labels were annotation values; the label 0 would count as *other*."""
    read = np.zeros_like(matrix)
    for label, index in enumerate(nomenclature.index_of[: len(matrix)]):
        read[:, index] += matrix[:, label]
    return read


def _far_better(would: float, now: float) -> bool:
    return would > max(_FACTOR * now, now + _GAIN)
