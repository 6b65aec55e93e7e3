"""Class weights that are computed from the training labels."""

from pathlib import Path

import numpy as np
import pytest

from flair_baseline.config import Config
from flair_baseline.training import class_balance
from flair_baseline.training.class_balance import KEYS, balance, balance_classes, measure_weights
from flair_ingestion.dataset import index_patches, read_labels
from flair_scoring.base.errors import DataError


def test_a_weight_is_the_capped_inverse_frequency_with_a_mean_of_1():
    # four classes count, 1000 pixels: shares 0.6, 0.39, 0.01 and 0; the last class has none of the pixels
    found = balance([1, 1, 1, 1, 0], np.array([600, 390, 10, 0, 5000]))
    raw = np.array([1 / (4 * 0.6), 1 / (4 * 0.39), 10, 10])
    assert found == pytest.approx([*(raw / raw.mean()), 0])
    assert np.mean(found[:4]) == pytest.approx(1)
    listed = balance([2, 1, 0.5, 1, 0], np.array([600, 390, 10, 0, 5000]))
    assert listed == pytest.approx([found[0] * 2, found[1], found[2] / 2, found[3], 0])


def test_equal_frequencies_and_no_pixels_leave_the_listed_weights():
    assert balance([1, 2, 0], np.array([7, 7, 9])) == pytest.approx([1, 2, 0])
    assert balance([1, 2, 0], np.array([0, 0, 9])) == pytest.approx([1, 2, 0])


def test_labels_without_any_class_that_counts_are_refused(flair_tree: Path, monkeypatch: pytest.MonkeyPatch):
    patches = index_patches(flair_tree, "train", labels=True)
    counts = np.zeros((len(patches), 13), np.int64)
    counts[:, 12] = 5
    monkeypatch.setattr(class_balance, "count_classes", lambda *_: counts)
    with pytest.raises(DataError, match=r"no pixel of the training labels .* in aerial_class_weights"):
        measure_weights(patches, Config())
    counts[:, 11] = 5  # plowed land: the satellite branch does not learn it
    with pytest.raises(DataError, match="in satellite_class_weights"):
        measure_weights(patches, Config())
    assert measure_weights(patches, Config(satellite=False))


def test_the_labels_of_all_training_patches_are_counted(flair_tree: Path, capsys):
    patches = index_patches(flair_tree, "train", labels=True)
    counts = np.zeros(13)
    for patch in patches:
        annotated, pixels = np.unique(read_labels(patch), return_counts=True)
        for value, number in zip(annotated, pixels, strict=True):
            counts[value - 1 if 1 <= value <= 12 else 12] += number
    config = Config()
    found = measure_weights(patches, config)
    assert found == {key: pytest.approx(balance(getattr(config, key), counts)) for key in KEYS}
    assert "class_weights=balanced: 6 label images counted in " in capsys.readouterr().err
    balanced = balance_classes(config, found)
    assert [list(getattr(balanced, key)) for key in KEYS] == [found[key] for key in KEYS]
    assert balanced.aerial_class_weights[12] == 0
    assert balanced.satellite_class_weights[11:] == (0, 0)
