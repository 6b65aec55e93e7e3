"""The confusion matrix of two label maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image


def confusion_matrix(reference: np.ndarray, prediction: np.ndarray, classes: int = 12) -> np.ndarray:
    """Pixels by reference class (rows) and predicted class (columns): int64 (classes + 1, classes + 1).

    `classes` is the number of *scored* classes, which is also the index of *other*: 12 for flair-12, as
    `FLAIR_12.other` says. With 13 the mIoU would count *other* as a thirteenth class.

    `reference` and `prediction` are numpy arrays of uint8 and of one shape that hold class indices
    0..classes. FLAIR's annotation values 1..19 become indices by `FLAIR_12.index_of[values]`. ValueError for
    anything else: no pixel is ever left out.
    """
    for name, labels in (("reference", reference), ("prediction", prediction)):
        if not isinstance(labels, np.ndarray):
            raise ValueError(f"{name} is a {type(labels).__name__}; expected a numpy array of uint8")
    if reference.shape != prediction.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}; expected {reference.shape}, the reference's"
        )
    for name, labels in (("reference", reference), ("prediction", prediction)):
        if labels.dtype != np.uint8:
            raise ValueError(f"{name} is {labels.dtype}; expected uint8: {name}.astype(numpy.uint8)")
        if labels.size and labels.max() > classes:
            raise ValueError(
                f"{name} holds {labels.max()}; expected class indices 0..{classes}, not annotation values"
            )
    side = classes + 1
    if side * side > 256 or reference.size % 4:
        codes = reference.astype(np.uint16) * side + prediction
        return np.bincount(codes.ravel(), minlength=side * side).reshape(side, side)
    codes = reference * side
    codes += prediction
    return byte_counter(codes)()[: side * side].reshape(side, side)


def byte_counter(codes: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that says how often each value occurs in `codes` at that time: int64 (256,).

    `codes`: contiguous uint8 array of 4 n elements. Pillow counts the four bytes of an RGBA pixel in four
    tables, so that no increment waits for the one before: faster than np.bincount, which has one table.
    """
    image = Image.frombuffer("RGBA", (codes.size // 4, 1), codes.ravel(order="K"), "raw", "RGBA", 0, 1)

    def count() -> np.ndarray:
        return np.fromiter(image.histogram(), np.int64, 1024).reshape(4, 256).sum(axis=0)

    return count
