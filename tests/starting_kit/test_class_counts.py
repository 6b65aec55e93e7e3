from pathlib import Path

import numpy as np
import rasterio

from flair_baseline.samples.class_counts import count_classes
from flair_ingestion.dataset import index_patches


def test_counts_are_those_of_another_reader(flair_tree: Path):
    patches = index_patches(flair_tree, "train", labels=True)
    counts = count_classes(patches, workers=2)
    assert counts.dtype == np.int64
    assert counts.shape == (len(patches), 13)
    for patch, row in zip(patches, counts, strict=True):
        with rasterio.open(patch.labels) as file:
            labels = file.read(1)
        expected = [(labels == value).sum() for value in range(1, 13)]
        assert row.tolist() == [*expected, labels.size - sum(expected)]
