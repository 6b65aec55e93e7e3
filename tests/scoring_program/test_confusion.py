"""The confusion matrix equals scikit-learn's and a loop over pixels; the fast count equals the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import confusion_matrix as sklearn_matrix

from flair_scoring import COSIA_16, FLAIR_12, FLAIR_18, Nomenclature, confusion_matrix
from flair_scoring.confusion import count_patch, patch_counter
from flair_scoring.nomenclature import NOMENCLATURES


def make_nomenclature(classes: int, in_order: bool = True) -> Nomenclature:
    """That many scored classes: the first annotation values, or the last ones in reverse order."""
    index_of = np.full(20, classes, np.uint8)
    index_of[1 : classes + 1] = range(classes)
    if not in_order:
        index_of = index_of[::-1].copy()
    names = tuple(f"class {index}" for index in range(classes))
    return Nomenclature(f"first {classes}", names, ("#ffffff",) * classes, index_of)


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
    matrix = confusion_matrix(reference, prediction, make_nomenclature(classes))
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
    nomenclature = make_nomenclature(classes)
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
        confusion_matrix(reference, prediction, nomenclature),
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
        ([0, 1], np.zeros(2, np.uint8), "reference is of type list; expected a numpy array of uint8"),
        (np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), "prediction has shape"),
    ],
)
def test_refuses_what_scikit_learn_would_drop(
    reference: np.ndarray, prediction: np.ndarray, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        confusion_matrix(reference, prediction)


@pytest.mark.parametrize("wrong", [12, 13, np.int64(12), "flair-12", None])
def test_a_number_in_place_of_the_nomenclature_is_refused(wrong: object) -> None:
    """13 would make *other* a scored class: half building right, half *other* called bare soil was 0.3333."""
    labels = np.zeros(4, np.uint8)
    with pytest.raises(
        ValueError, match=r"nomenclature is of type \w+; expected a Nomenclature, such as .*FLAIR_12"
    ):
        confusion_matrix(labels, labels, wrong)  # type: ignore[arg-type]


def test_a_count_of_classes_has_no_other_name() -> None:
    for nomenclature, scored in ((FLAIR_12, 12), (FLAIR_18, 18), (COSIA_16, 16)):
        assert nomenclature.num_classes == len(nomenclature.classes) == len(nomenclature.colours) == scored
        assert nomenclature.other == nomenclature.index_of.max() == scored
        assert nomenclature.matrix_shape == (scored + 1, scored + 1)
        assert nomenclature.classes_with_other == (*nomenclature.classes, "other")
        assert nomenclature.colours_with_other == (*nomenclature.colours, "#000000")


@st.composite
def patches_of_files(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Nomenclature]:
    """A mask of FLAIR values 0..19, a label map, and the kit's or other nomenclatures."""
    others = [
        make_nomenclature(classes, ordered) for classes in (1, 13, 14, 15, 18) for ordered in (True, False)
    ]
    nomenclature = draw(st.sampled_from([*NOMENCLATURES.values(), *others]))
    shape = draw(st.sampled_from([(8,), (2, 8), (16, 24)]))
    values = st.integers(draw(st.integers(0, 3)), draw(st.integers(3, 19)))
    mask = draw(npst.arrays(np.uint8, shape, elements=values))
    labels = draw(npst.arrays(np.uint8, shape, elements=st.integers(0, nomenclature.other)))
    return mask, labels, nomenclature


@settings(max_examples=60, deadline=None)
@given(patches_of_files(), patches_of_files())
def test_the_fast_count_is_the_plain_one(
    first: tuple[np.ndarray, np.ndarray, Nomenclature], second: tuple[np.ndarray, np.ndarray, Nomenclature]
) -> None:
    """Also of a second pair that is read into the same buffers."""
    mask, labels, nomenclature = first[0].copy(), first[1].copy(), first[2]
    count = patch_counter(mask, labels, nomenclature)
    for values, predicted in (
        first[:2],
        (np.resize(second[0], mask.shape), np.resize(second[1], mask.shape)),
    ):
        mask[...], labels[...] = values, np.minimum(predicted, nomenclature.other)
        matrix, zeros = count_patch(mask, labels, nomenclature)
        looped = np.zeros(nomenclature.matrix_shape, int)
        for value, label in zip(mask.flat, labels.flat, strict=True):
            looped[nomenclature.index_of[value], label] += 1
        np.testing.assert_array_equal(matrix, looped)
        assert zeros == list(mask.flat).count(0)
        fast, fast_zeros = count()
        np.testing.assert_array_equal(fast, matrix)
        assert (fast.dtype, fast_zeros) == (matrix.dtype, zeros)


@pytest.mark.parametrize("nomenclature", [FLAIR_12, FLAIR_18, COSIA_16], ids=lambda one: one.name)
def test_the_fast_count_refuses_labels_above_other(nomenclature: Nomenclature) -> None:
    labels = np.full((8, 8), nomenclature.other + 1, np.uint8)
    with pytest.raises(ValueError, match=rf"holds {nomenclature.other + 1}; expected class indices 0\.\."):
        patch_counter(np.ones((8, 8), np.uint8), labels, nomenclature)()
