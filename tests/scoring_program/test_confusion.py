"""The confusion matrix equals scikit-learn's and a loop over the pixels, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import confusion_matrix as sklearn_matrix

from flair_scoring import confusion_matrix


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Reference, prediction, number of scored classes; any size, often few different classes."""
    classes = draw(st.integers(1, 18))
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=9))
    labels = npst.arrays(np.uint8, shape, elements=st.integers(0, draw(st.integers(0, classes))))
    return draw(labels), draw(labels), classes


@given(label_pairs())
def test_equals_scikit_learn_and_a_loop(pair: tuple[np.ndarray, np.ndarray, int]) -> None:
    reference, prediction, classes = pair
    matrix = confusion_matrix(reference, prediction, classes)
    looped = np.zeros((classes + 1, classes + 1), int)
    for actual, predicted in zip(reference.flat, prediction.flat, strict=True):
        looped[actual, predicted] += 1
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, looped)
    np.testing.assert_array_equal(
        matrix, sklearn_matrix(reference.ravel(), prediction.ravel(), labels=range(classes + 1))
    )


@pytest.mark.parametrize("classes", [12, 15, 16, 18])
@pytest.mark.parametrize("case", ["random", "all other", "one class", "columns first", "strided"])
def test_equals_scikit_learn_on_whole_patches(classes: int, case: str) -> None:
    rng = np.random.default_rng(classes)
    reference, prediction = rng.integers(0, classes + 1, (2, 512, 512), dtype=np.uint8)
    if case == "all other":
        reference[:] = prediction[:] = classes
    elif case == "one class":
        reference[:], prediction[:] = 0, classes
    elif case == "columns first":
        reference, prediction = np.asfortranarray(reference), np.asfortranarray(prediction)
    elif case == "strided":
        reference, prediction = reference[::2, ::2], prediction.T[::2, ::2]
    before = reference.copy()
    np.testing.assert_array_equal(
        confusion_matrix(reference, prediction, classes),
        sklearn_matrix(reference.ravel(), prediction.ravel(), labels=range(classes + 1)),
    )
    np.testing.assert_array_equal(reference, before)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 63))
def test_parts_add_up_and_relabelling_moves_rows_and_columns(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    reference, prediction = rng.integers(0, 13, (2, 64, 64), dtype=np.uint8)
    whole = confusion_matrix(reference, prediction)
    parts = [confusion_matrix(reference[rows], prediction[rows]) for rows in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(whole, sum(parts))
    names = rng.permutation(13).astype(np.uint8)
    np.testing.assert_array_equal(
        confusion_matrix(names[reference], names[prediction])[np.ix_(names, names)], whole
    )


@pytest.mark.parametrize(
    ("reference", "prediction", "sentence"),
    [
        (
            np.zeros(4, np.uint8),
            np.full(4, 13, np.uint8),
            "prediction holds 13; expected class indices 0..12",
        ),
        (np.zeros(4, np.uint8), np.array([0, 0, 0, 255], np.uint8), "prediction holds 255"),
        (np.full(4, 19, np.uint8), np.zeros(4, np.uint8), "reference holds 19"),
        (
            np.zeros(4, np.uint8),
            np.zeros(4, np.int64),
            r"prediction is int64; expected uint8: prediction.astype\(numpy.uint8\)",
        ),
        ([0, 1], np.zeros(2, np.uint8), "reference is a list; expected a numpy array of uint8"),
        (np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), "prediction has shape"),
    ],
)
def test_refuses_what_scikit_learn_would_drop(
    reference: np.ndarray, prediction: np.ndarray, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        confusion_matrix(reference, prediction)
