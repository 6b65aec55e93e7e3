"""How many pixels of each class the labels of each patch hold."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.pool import ThreadPool

import numpy as np
from PIL import Image
from tqdm import tqdm

from flair_baseline.machines.distributed import rank
from flair_ingestion.dataset import Patch, read_labels
from flair_scoring.nomenclature import FLAIR_12


def count_classes(patches: Sequence[Patch], workers: int = 1) -> np.ndarray:
    """Pixels of each class index 0..12 in the labels of each patch: int64 (N, 13), rows as `patches`.

    So many threads as `workers` read the labels, at least one; rank 0 shows their progress if its stderr is a
    terminal. DataError for labels that cannot be read.
    """
    counts = np.zeros((len(patches), len(FLAIR_12.classes_with_other)), np.int64)
    disable = None if rank() == 0 else True  # None lets tqdm find out whether there is a terminal
    with ThreadPool(max(workers, 1)) as pool:  # threads suffice: decoding and counting release Python's lock
        rows = pool.imap(_count_patch, patches, chunksize=16)
        shown = tqdm(rows, "classes", len(patches), unit="patch", dynamic_ncols=True, disable=disable)
        for index, row in enumerate(shown):
            counts[index] = row
    return counts


def _count_patch(patch: Patch) -> np.ndarray:
    # Pillow counts bytes several times faster than numpy.bincount, which widens each of them first
    values = np.array(Image.fromarray(read_labels(patch)).histogram()[: len(FLAIR_12.index_of)])
    return np.bincount(FLAIR_12.index_of, values, len(FLAIR_12.classes_with_other)).astype(np.int64)
