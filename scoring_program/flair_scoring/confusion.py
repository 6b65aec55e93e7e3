"""The confusion matrix of two label maps, and of a mask and a label map as they lie in files.

`count_patch` says in plain numpy what is counted. `patch_counter` computes the same faster; tests compare
the two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from flair_scoring.nomenclature import FLAIR_12, MAX_FLAIR_VALUE, Nomenclature

_NIBBLE = 16  # values of half a byte


def confusion_matrix(
    reference: np.ndarray, prediction: np.ndarray, nomenclature: Nomenclature = FLAIR_12
) -> np.ndarray:
    """Count the pixels of two label maps by reference class (rows) and predicted class (columns).

    Args:
        reference: Class indices 0..K, uint8 of any shape; K is the index of *other*. A mask of FLAIR holds
            annotation values instead: `nomenclature.index_of[mask]` turns them into class indices.
        prediction: Class indices 0..K, uint8 of the same shape.
        nomenclature: The scored classes.

    Returns:
        int64 (K+1, K+1). The last row and column are *other*, which the metrics do not score. The sum is the
        number of pixels: none is left out.

    Raises:
        ValueError: An argument is of another type, dtype or shape, or a label is above K.

    Example:
        >>> import numpy as np
        >>> from flair_scoring import FLAIR_12, confusion_matrix, iou
        >>> mask = np.array([[5, 5], [1, 19]], np.uint8)  # FLAIR values: water, building, other
        >>> prediction = np.array([[4, 0], [0, 0]], np.uint8)  # class indices: water, building
        >>> matrix = confusion_matrix(FLAIR_12.index_of[mask], prediction)
        >>> matrix.shape, int(matrix.sum())
        ((13, 13), 4)
        >>> iou(matrix)[[0, 4]]  # of building 1 of 3 pixels is right, of water 1 of 2
        array([0.33333333, 0.5       ])
    """
    if not isinstance(nomenclature, Nomenclature):
        raise ValueError(
            f"nomenclature is of type {type(nomenclature).__name__}; expected a Nomenclature, such as "
            "flair_scoring.FLAIR_12: it knows how many classes are scored"
        )
    for name, labels in (("reference", reference), ("prediction", prediction)):
        if not isinstance(labels, np.ndarray):
            raise ValueError(f"{name} is of type {type(labels).__name__}; expected a numpy array of uint8")
    if reference.shape != prediction.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}; expected {reference.shape}, the reference's"
        )
    for name, labels in (("reference", reference), ("prediction", prediction)):
        if labels.dtype != np.uint8:
            raise ValueError(f"{name} is {labels.dtype}; expected uint8: {name}.astype(numpy.uint8)")
        if labels.size and labels.max() > nomenclature.other:
            raise ValueError(
                f"{name} holds {labels.max()}; expected class indices 0..{nomenclature.other}, "
                "not annotation values"
            )
    side, _ = nomenclature.matrix_shape
    if side * side > 256 or reference.size % 4:
        codes = reference.astype(np.uint16) * side + prediction
        return np.bincount(codes.ravel(), minlength=side * side).reshape(side, side)
    codes = reference * side
    codes += prediction
    return byte_counter(codes)()[: side * side].reshape(side, side)


def count_patch(
    mask: np.ndarray, labels: np.ndarray, nomenclature: Nomenclature = FLAIR_12
) -> tuple[np.ndarray, int]:
    """The confusion matrix, int64 (K+1, K+1), of a mask and a label map, and the number of zeros in the mask.

    `mask` holds FLAIR values 0..19, `labels` class indices 0..K; both are uint8 and of one shape. This is the
    definition: it is slow, and scoring calls `patch_counter` instead.
    """
    matrix = np.zeros(nomenclature.matrix_shape, np.int64)
    np.add.at(matrix, (nomenclature.index_of[mask], labels), 1)
    return matrix, int((mask == 0).sum())


def patch_counter(
    mask: np.ndarray, labels: np.ndarray, nomenclature: Nomenclature
) -> Callable[[], tuple[np.ndarray, int]]:
    """A function that returns what `count_patch` returns for the values which the two arrays then hold.

    The arrays are buffers into which one pair of files after the other is read: uint8, contiguous, of one
    shape, with a multiple of 8 pixels. The function overwrites `mask`. It raises ValueError for a label
    above K.
    """
    other = nomenclature.other
    in_order = np.array_equal(nomenclature.index_of[1:], np.minimum(np.arange(MAX_FLAIR_VALUE), other))
    if not in_order or other + 1 >= _NIBBLE:

        def count_by_table() -> tuple[np.ndarray, int]:
            matrix = confusion_matrix(nomenclature.index_of.take(mask), labels, nomenclature)
            return matrix, mask.size - int(np.count_nonzero(mask))

        return count_by_table

    # One byte holds the FLAIR value of a pixel in its upper half and the label in its lower half; eight of
    # these bytes are computed at a time. A class index is the value minus 1, so that row v + 1 of the table
    # is row v of the matrix. All values above K count in its last row, and so does 0.
    highest = np.full(mask.shape[-1], other + 1, np.uint8)  # numpy is slow with a scalar
    codes, eight_labels = mask.view(np.uint64), labels.view(np.uint64)
    count_codes = byte_counter(mask)

    def count_by_halves() -> tuple[np.ndarray, int]:
        if (found := labels.max()) > other:
            raise ValueError(
                f"prediction holds {found}; expected class indices 0..{other}, not annotation values"
            )
        np.minimum(mask, highest, out=mask)
        np.left_shift(codes, 4, out=codes)
        np.bitwise_or(codes, eight_labels, out=codes)
        table = count_codes().reshape(_NIBBLE, _NIBBLE)[: other + 2, : other + 1]
        zeros = table[0].copy()
        table[-1] += zeros
        return table[1:], int(zeros.sum())

    return count_by_halves


def byte_counter(codes: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that returns how often each value occurs in `codes` when it is called: int64 (256,).

    `codes` is a contiguous uint8 array whose size is a multiple of 4. Pillow counts the four bytes of an RGBA
    pixel in four tables, where no increment has to wait for the one before. That is faster than np.bincount,
    which has one table.
    """
    image = Image.frombuffer("RGBA", (codes.size // 4, 1), codes.ravel(order="K"), "raw", "RGBA", 0, 1)

    def count() -> np.ndarray:
        return np.fromiter(image.histogram(), np.int64, 1024).reshape(4, 256).sum(axis=0)

    return count
