"""Folders of predictions against folders of references: exact where valid, refused as a whole where not."""

from __future__ import annotations

import os
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_patches import PLACES, Patches, random_mask
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score, precision_recall_fscore_support

from flair_scoring import evaluate
from flair_scoring.base.errors import DataError, PredictionError, UsageError
from flair_scoring.nomenclature import COSIA_16, FLAIR_12, FLAIR_18, Nomenclature
from flair_scoring.pairing import read_ids
from flair_scoring.raster import encode_labels, read_raster, write_labels

# FLAIR value -> CoSIA index, from the table of FLAIR's documentation; the others are other (16)
COSIA_INDEX = {
    1: 0,
    18: 1,
    13: 2,
    3: 3,
    2: 4,
    4: 5,
    5: 6,
    14: 7,
    10: 8,
    11: 9,
    12: 10,
    9: 11,
    7: 12,
    6: 13,
    8: 14,
    15: 15,
}


def sklearn_sum(patches: Patches, ids: list[str]) -> np.ndarray:
    truth = np.minimum(np.stack([patches.masks[id] for id in ids]).astype(int) - 1, 12)
    return sklearn_matrix(
        truth.ravel(), np.stack([patches.labels[id] for id in ids]).ravel(), labels=range(13)
    )


def official_matrix(references: list[Path], predictions: list[Path]) -> np.ndarray:
    """The challenge's procedure on files that Pillow opens: a matrix per patch, summed."""
    total = np.zeros((13, 13), int)
    for reference, prediction in zip(references, predictions, strict=True):
        truth = np.array(Image.open(reference)) - 1
        truth[truth > 12] = 12
        total += sklearn_matrix(truth.ravel(), np.array(Image.open(prediction)).ravel(), labels=range(13))
    return total


@st.composite
def label_maps(draw: st.DrawFn, lowest: int, highest: int, other: int) -> np.ndarray:
    """uint8 (512, 512): one class, all *other*, noise, or blocks of a few classes."""
    values = st.integers(lowest, highest)
    kind = draw(st.sampled_from(["one class", "all other", "noise", "blocks"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "noise":
        return rng.integers(lowest, highest, (512, 512), np.uint8, endpoint=True)
    few = {"one class": [draw(values)], "all other": [other]}.get(kind) or draw(st.lists(values, min_size=1))
    return rng.choice(np.array(few, np.uint8), (64, 64)).repeat(8, axis=0).repeat(8, axis=1)


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(label_maps(1, 19, 19), label_maps(0, 12, 12)), min_size=1, max_size=3),
    compression=st.sampled_from([None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_valid_files_get_the_official_score(
    pairs: list[tuple[np.ndarray, np.ndarray]], compression: str | None, shuffle: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ids = [f"{number:06d}" for number in range(len(pairs))]
        references = [Path(folder, f"MSK_{id}.tif") for id in ids]
        predictions = [Path(folder, f"PRED_{id}.tif") for id in ids]
        for paths, labels in zip(zip(references, predictions, strict=True), pairs, strict=True):
            for path, one in zip(paths, labels, strict=True):
                Image.fromarray(one).save(path, compression=compression)
        official = official_matrix(references, predictions)
        given_order = [str(path) for path in predictions]
        shuffle.shuffle(given_order)
        if official[:12].any() or official[:, :12].any():
            found = evaluate(given_order, folder)
        else:
            with pytest.raises(DataError, match="all pixels are"):
                evaluate(given_order, folder)
            return
    np.testing.assert_array_equal(found.matrix, official)
    hits = np.diag(official)
    with np.errstate(invalid="ignore"):
        ious = (hits / (official.sum(axis=0) + official.sum(axis=1) - hits))[:12]
    assert found.miou == pytest.approx(np.nanmean(ious), abs=1e-12)


def test_each_patch_has_scikit_learns_matrix_and_its_place(patches: Patches) -> None:
    found = evaluate(patches.predictions, patches.references)
    assert found.ids == tuple(sorted(PLACES))
    assert [f"{domain}/{area}" for domain, area in zip(found.domains, found.areas, strict=True)] == list(
        PLACES.values()
    )
    for id, matrix in zip(found.ids, found.matrices, strict=True):
        np.testing.assert_array_equal(matrix, sklearn_sum(patches, [id]))
    np.testing.assert_array_equal(found.matrix, sklearn_sum(patches, list(PLACES)))
    np.testing.assert_array_equal(
        found.domain_matrices["D015_2020"], sklearn_sum(patches, ["077413", "077414"])
    )
    assert found.pairs == tuple((str(patches.reference(id)), str(patches.prediction(id))) for id in found.ids)
    assert found.interval is not None
    assert found.notes == ()


@pytest.mark.parametrize("nomenclature", [FLAIR_12, FLAIR_18], ids=lambda one: one.name)
def test_the_table_of_classes_is_scikit_learns(patches: Patches, nomenclature: Nomenclature) -> None:
    for mask in patches.masks.values():
        mask[mask == 9] = 10  # no vineyard …
    for id, labels in patches.labels.items():
        labels[labels == 8] = 9  # … in either
        write_labels(patches.reference(id), patches.masks[id])
        write_labels(patches.prediction(id), labels)
    table = evaluate(patches.predictions, patches.references, nomenclature).per_class()
    assert tuple(table.index) == nomenclature.classes_with_other
    scored = nomenclature.num_classes
    truth = nomenclature.index_of[np.ravel([patches.masks[id] for id in PLACES])]
    predicted = np.ravel([patches.labels[id] for id in PLACES])
    labels = range(scored + 1)
    options = {"labels": labels, "average": None, "zero_division": np.nan}
    expected = precision_recall_fscore_support(truth, predicted, **options)
    ious = jaccard_score(truth, predicted, labels=labels, average=None, zero_division=0)
    ious[np.isnan(expected[2])] = np.nan
    for name, values in zip(("precision", "recall", "f1", "iou"), [*expected[:3], ious], strict=True):
        np.testing.assert_allclose(table[name][:scored], values[:scored], atol=1e-12, err_msg=name)
        assert np.isnan(table[name]["other"])
    assert np.isnan(table["iou"]["vineyard"])
    assert table["reference_pixels"].tolist() == expected[3].tolist()
    assert table["predicted_pixels"].tolist() == np.bincount(predicted, minlength=scored + 1).tolist()
    right = np.bincount(truth[truth == predicted], minlength=scored + 1)
    assert table["correct_pixels"].tolist() == right.tolist()
    assert table["iou"].mean() == evaluate(patches.predictions, patches.references, nomenclature).miou


def test_flat_nested_and_longer_names_are_the_same(patches: Patches, tmp_path: Path) -> None:
    expected = evaluate(patches.predictions, patches.references).matrices
    (patches.predictions / "deep/er").mkdir(parents=True)
    patches.prediction("077413").rename(patches.predictions / "deep/er/PRED_IMG_077413.tif")
    (patches.predictions / "notes.txt").write_text("hello")
    flat = tmp_path / "flat"
    flat.mkdir()
    for id in PLACES:
        patches.reference(id).rename(flat / f"MSK_{id}.tif")
    found = evaluate(patches.predictions, flat)
    np.testing.assert_array_equal(found.matrices, expected)
    assert found.domains == ("",) * 4
    assert found.interval is None
    assert found.notes == ("Beside the predictions 1 file with another name was ignored: notes.txt.",)


@pytest.mark.parametrize(
    ("nomenclature", "index_of"),
    [(FLAIR_18, {value: value - 1 for value in range(1, 19)}), (COSIA_16, COSIA_INDEX)],
    ids=["flair-18", "cosia-16"],
)
def test_other_nomenclatures(patches: Patches, nomenclature: Nomenclature, index_of: dict[int, int]) -> None:
    classes = nomenclature.num_classes
    truth = np.vectorize(lambda value: index_of.get(value, classes))(patches.masks["077413"])
    prediction = np.roll(truth, 9, axis=1)
    write_labels(patches.prediction("077413"), prediction.astype(np.uint8))
    found = evaluate(patches.predictions, patches.references, nomenclature, ids=["077413"])
    np.testing.assert_array_equal(
        found.matrix, sklearn_matrix(truth.ravel(), prediction.ravel(), labels=range(classes + 1))
    )


def test_many_patches_on_two_processes_equal_one(patches: Patches, tmp_path: Path) -> None:
    references, predictions = tmp_path / "many_references", tmp_path / "many_predictions"
    references.mkdir()
    predictions.mkdir()
    ids = list(PLACES)
    for number in range(300):
        (references / f"MSK_{number:06d}.tif").symlink_to(patches.reference(ids[number % 4]))
        (predictions / f"PRED_{number:06d}.tif").symlink_to(patches.prediction(ids[number % 4]))
    one, two = (evaluate(predictions, references, jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.matrices, two.matrices)
    np.testing.assert_array_equal(two.matrix, 75 * sklearn_sum(patches, ids))


def test_the_value_0_counts_as_other_and_is_reported(patches: Patches) -> None:
    patches.masks["077413"][:2] = 0
    write_labels(patches.reference("077413"), patches.masks["077413"])
    patches.masks["077413"][:2] = 19
    found = evaluate(patches.predictions, patches.references)
    np.testing.assert_array_equal(found.matrix, sklearn_sum(patches, list(PLACES)))
    assert "1024 reference pixels hold 0" in found.notes[0]


@pytest.mark.parametrize("nomenclature", [FLAIR_12, FLAIR_18, COSIA_16], ids=lambda one: one.name)
@pytest.mark.parametrize("zeros", [0, 1, 100])  # pixels of each patch, as of margins that were not predicted
def test_predictions_in_annotation_values_are_noted(
    patches: Patches, zeros: int, nomenclature: Nomenclature
) -> None:
    known = np.arange(1, nomenclature.num_classes + 1, dtype=np.uint8)
    for id, mask in patches.masks.items():
        mask[:] = known[mask % len(known)]
        write_labels(patches.reference(id), mask)
        mask = mask.copy()
        mask[0, :zeros] = 0
        write_labels(patches.prediction(id), mask)
    found = evaluate(patches.predictions, patches.references, nomenclature)
    (note,) = found.notes
    other = ", and 0 as other," if zeros else ""
    assert f"read as FLAIR's annotation values 1..19{other} their mIoU would be" in note
    assert f"would be {'0.99' if zeros == 100 else '1.0000'}" in note
    assert f"instead of {found.miou:.4f}" in note
    first, value = nomenclature.classes[0], int(np.flatnonzero(nomenclature.index_of == 0)[0])
    assert f"Predictions must hold class indices: {first} is 0, not {value}." in note


@pytest.mark.parametrize("nomenclature", [FLAIR_12, FLAIR_18], ids=lambda one: one.name)
def test_references_in_class_indices_are_noted(patches: Patches, nomenclature: Nomenclature) -> None:
    for id, labels in patches.labels.items():
        labels[:] %= nomenclature.num_classes
        write_labels(patches.reference(id), labels)
        write_labels(patches.prediction(id), labels)
    found = evaluate(patches.predictions, patches.references, nomenclature)
    told = [note for note in found.notes if "class indices 0.." in note]
    assert len(told) == 1
    assert f"mIoU would be 1.0000 instead of {found.miou:.4f}" in told[0]
    assert "References must hold FLAIR's annotation values: building is 1, not 0." in told[0]


def test_right_values_get_no_such_note(patches: Patches) -> None:
    """Also where they are poor, or have no building."""
    assert evaluate(patches.predictions, patches.references).notes == ()
    for id, labels in patches.labels.items():
        write_labels(patches.prediction(id), np.where(labels == 0, 3, labels).astype(np.uint8))
    assert evaluate(patches.predictions, patches.references).notes == ()
    for id in PLACES:
        write_labels(patches.prediction(id), np.full((512, 512), 9, np.uint8))
    assert evaluate(patches.predictions, patches.references).notes == ()


def test_ids_restrict_what_counts(patches: Patches) -> None:
    found = evaluate(patches.predictions, patches.references, ids=["085221", "077414"])
    np.testing.assert_array_equal(found.matrix, sklearn_sum(patches, ["077414", "085221"]))
    assert found.notes == (
        "2 of 4 references count: only the patches that were chosen for this evaluation are scored.",
    )
    with pytest.raises(DataError, match="123456"):
        evaluate(patches.predictions, patches.references, ids=["123456"])


def test_all_problems_of_the_predictions_are_in_one_report(patches: Patches) -> None:
    folder = patches.predictions
    patches.prediction("077413").unlink()
    patches.prediction("077414").rename(folder / "pred_077414.TIF")
    (folder / "PRED_80001.tiff").write_text("a name that is nearly right")
    (folder / "080001.tif").write_text("another name")
    (folder / "again").mkdir()
    (folder / "again/PRED_080001.tif").write_bytes(encode_labels(patches.labels["080001"]))
    (folder / "PRED_999999.tif").write_bytes(encode_labels(patches.labels["080001"]))
    write_labels(patches.prediction("085221"), np.full((512, 512), 13, np.uint8))
    with pytest.raises(PredictionError) as caught:
        evaluate(folder, patches.references)
    report = str(caught.value)
    assert "predictions are missing (2 problems):\n  - PRED_077413.tif\n  - PRED_077414.tif" in report
    assert f"{folder}/pred_077414.TIF: expected the name PRED_077414.tif" in report
    assert f"{folder}/PRED_80001.tiff: expected the name PRED_080001.tif" in report
    assert "(1 file with another name was ignored: 080001.tif)" in report
    assert f"2 files for 080001: {folder}/PRED_080001.tif, {folder}/again/PRED_080001.tif" in report
    assert f"have no reference (1 problem):\n  - {folder}/PRED_999999.tif" in report
    holds = "prediction holds 13; expected class indices 0..12, not annotation values"
    assert f"{patches.prediction('085221')}: {holds}" in report


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(b"II*\0 no more"), "has a damaged TIFF header"),
        (lambda path: path.write_text("PRED"), "has 4 bytes"),
        (lambda path: Image.new("L", (256, 256)).save(path), "has size 256 x 256; expected 512 x 512"),
        (lambda path: Image.new("RGB", (512, 512)).save(path), "has band count 3; expected 1"),
        (lambda path: Image.new("I;16", (512, 512)).save(path), "has data type uint16"),
        (lambda path: (path.unlink(), path.symlink_to("gone")), "cannot be read: No such file"),
        (lambda path: write_labels(path, np.full((512, 512), 255, np.uint8)), "prediction holds 255"),
    ],
)
def test_a_damaged_prediction_refuses_the_whole(
    patches: Patches, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(patches.prediction("080001"))
    with pytest.raises(PredictionError, match=r"not label maps \(1 problem\)") as caught:
        evaluate(patches.predictions, patches.references)
    assert f"{patches.prediction('080001')}: {sentence}" in str(caught.value)


def test_long_reports_name_twenty_and_count_all(patches: Patches) -> None:
    for number in range(30):
        write_labels(patches.reference("077413").with_name(f"MSK_{number:06d}.tif"), random_mask(0))
    with pytest.raises(PredictionError) as caught:
        evaluate(patches.predictions, patches.references)
    assert "predictions are missing (30 problems):" in str(caught.value)
    assert "PRED_000019.tif\n  … and 10 more" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda path: write_labels(path, np.full((512, 512), 20, np.uint8)),
            "reference holds 20; expected FLAIR",
        ),
        (lambda path: path.write_text("cut off in transfer"), "is not a TIFF file"),
        (lambda path: write_labels(path.with_name("MSK_077413.tif"), random_mask(0)), "2 files for 077413"),
        (
            lambda path: path.rename(path.with_suffix(".tiff")),
            "080001.tiff: expected the name MSK_080001.tif",
        ),
        (lambda path: path.rename(path.with_name("MSK_80001.tif")), "expected the name MSK_080001.tif"),
        (lambda path: path.rename(path.with_name("MSK_1080001.tif")), "expected the name MSK_<6 digits>.tif"),
    ],
)
def test_the_references_own_problems_are_not_blamed_on_the_predictions(
    patches: Patches, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(patches.reference("080001"))
    with pytest.raises(DataError, match=sentence):
        evaluate(patches.predictions, patches.references)


def test_nothing_to_average_is_an_error(patches: Patches) -> None:
    for id in PLACES:
        write_labels(patches.reference(id), np.full((512, 512), 19, np.uint8))
        write_labels(patches.prediction(id), np.full((512, 512), 12, np.uint8))
    with pytest.raises(DataError, match="at least one scored class"):
        evaluate(patches.predictions, patches.references)


LABELS = np.zeros((512, 512), np.uint8)
ARRAYS = r"expected .+; two arrays are compared by flair_scoring.confusion_matrix"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"predictions": LABELS, "references": LABELS}, f"predictions is of type numpy.ndarray; {ARRAYS}"),
        ({"predictions": [LABELS]}, f"predictions holds numpy.ndarray; {ARRAYS}"),
        ({"predictions": 5}, "predictions is of type int; expected a folder or a list of paths"),
        ({"references": LABELS}, f"references is of type numpy.ndarray; {ARRAYS}"),
        ({"references": ["MSK_077413.tif"]}, "references is of type list; expected a folder"),
        ({"ids": "077413"}, "ids is of type str; expected a list of 6-digit ids"),
        ({"ids": Path("ids.txt")}, "ids is of type .*Path; expected a list of 6-digit ids"),
        ({"ids": [77413]}, "ids holds 77413; expected texts of 6 digits, such as '077413'"),
        (
            {"nomenclature": "flair-12"},
            "nomenclature is of type str; expected a Nomenclature, such as .*FLAIR_12",
        ),
    ],
)
def test_arguments_of_another_kind_are_explained(
    patches: Patches, arguments: dict[str, object], sentence: str
) -> None:
    given = {"predictions": patches.predictions, "references": patches.references} | arguments
    with pytest.raises(UsageError, match=sentence):
        evaluate(**given)  # type: ignore[arg-type]


def test_paths_may_be_text_or_path_objects(patches: Patches) -> None:
    expected = evaluate(str(patches.predictions), str(patches.references)).matrices
    for predictions in (sorted(patches.predictions.iterdir()), map(str, patches.predictions.iterdir())):
        found = evaluate(list(predictions), patches.references, ids={*PLACES})
        np.testing.assert_array_equal(found.matrices, expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_ids_are_read_as_every_editor_writes_them(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "ids.txt"
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    path.write_bytes(f"{mark}077413\r\n080001\r\n".encode(encoding))
    assert read_ids(path) == ["077413", "080001"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes("077413\n".encode("utf-16-le")), "it is no UTF-8 text"),
        (lambda path: path.write_bytes(b"\xff\xfe7"), "it is no UTF-8 text"),
        (lambda path: path.write_bytes(b"PK\3\4\xf0\0"), "it is no UTF-8 text"),
        (os.mkfifo, "it is a pipe or a device"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: None, "No such file or directory"),
        (
            lambda path: path.write_bytes(b"1" * (1 << 25)),
            "it has 33554432 bytes, and at most 16777216 are read",
        ),
        (lambda path: path.write_text("77413\nIMG_077414\n"), "(2 problems):\n  - '77413'\n  - 'IMG_077414'"),
    ],
)
def test_ids_that_are_none(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    make(tmp_path / "ids.txt")
    with pytest.raises(UsageError, match=re.escape(sentence)) as caught:
        read_ids(tmp_path / "ids.txt")
    assert "one 6-digit id per line" in str(caught.value)


def test_folders_that_are_none(patches: Patches, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        evaluate(patches.predictions, tmp_path / "nowhere")
    with pytest.raises(DataError, match="no references"):
        evaluate(patches.predictions, patches.predictions)


def test_a_folder_that_cannot_be_listed_is_named(patches: Patches, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root, who may run the tests, is refused nothing
    with pytest.raises(UsageError, match=rf"{patches.predictions}: cannot be listed \(Permission denied\)"):
        evaluate(patches.predictions, patches.references)


def test_a_link_to_itself_is_a_file_with_another_name_or_a_broken_one(patches: Patches) -> None:
    (patches.predictions / "latest").symlink_to("latest")
    assert "1" in evaluate(patches.predictions, patches.references).notes[0]
    patches.prediction("077413").unlink()
    patches.prediction("077413").symlink_to("PRED_077413.tif")
    with pytest.raises(PredictionError, match=r"PRED_077413\.tif: cannot be read: Too many levels"):
        evaluate(patches.predictions, patches.references)


def test_folders_that_link_to_each_other_end(patches: Patches) -> None:
    os.symlink(patches.references, patches.references / "D015_2020/again")
    assert evaluate(patches.predictions, patches.references).ids == tuple(sorted(PLACES))


def test_real_masks_against_themselves_shifted(real_data: Path, tmp_path: Path) -> None:
    references = real_data / "flair2_real_patches/flair_labels_train"
    truths, shifted = [], []
    for path in sorted(references.rglob("MSK_*.tif"), key=lambda path: path.name):
        truths.append(np.minimum(read_raster(path).astype(int) - 1, 12))
        shifted.append(np.roll(truths[-1], (5, 11), axis=(0, 1)))
        write_labels(tmp_path / path.name.replace("MSK", "PRED"), shifted[-1].astype(np.uint8))
    found = evaluate(tmp_path, references)
    assert found.ids == ("034217", "036294", "050549")
    assert found.domains == ("D051_2019", "D055_2018", "D074_2020")
    np.testing.assert_array_equal(
        found.matrix, sklearn_matrix(np.ravel(truths), np.ravel(shifted), labels=range(13))
    )


def test_a_list_of_ids_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids.txt")
    with pytest.raises(
        UsageError, match=r"ids\.txt: cannot be read \(it is a pipe or a device, not a file\)"
    ):
        read_ids(tmp_path / "ids.txt")
    (tmp_path / "long.txt").write_text("7" * 10_000)
    with pytest.raises(UsageError, match="expected one 6-digit id per line") as caught:
        read_ids(tmp_path / "long.txt")
    assert len(str(caught.value)) < 300
