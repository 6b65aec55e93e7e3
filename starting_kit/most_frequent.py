"""Pack the submission that gives every pixel the most frequent class of the training labels.

It needs no model. On a leaderboard it shows what other scores are worth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flair_baseline.packaging import check_target, write_submission
from flair_ingestion.dataset import Patch, index_patches, read_labels, require_data
from flair_scoring.base.errors import DataError, run_command
from flair_scoring.nomenclature import FLAIR_12

MODEL = '''"""Every pixel is {name}, the most frequent class of the training labels."""

import numpy as np


class Model:
    batch_size = 32
    superpatch_size = 10

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return np.full((len(batch["aerial"]), 512, 512), {index}, dtype=np.uint8)
'''


def count_classes(patches: Sequence[Patch]) -> np.ndarray:
    """Labelled pixels of each scored class, int64 (12,); *other* is left out, since it is not scored."""
    counts = np.zeros(len(FLAIR_12.classes_with_other), dtype=np.int64)
    for patch in tqdm(patches, unit="patch", desc="labels", dynamic_ncols=True, disable=None):
        counts += np.bincount(FLAIR_12.index_of[read_labels(patch)].ravel(), minlength=len(counts))
    return counts[: FLAIR_12.num_classes]


def main() -> None:
    """Count the labels of all training domains, write the submission, print its path."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python starting_kit/most_frequent.py /data/flair2 -o runs/most_frequent.zip",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the FLAIR #2 archives, unpacked")
    parser.add_argument("-o", "--output", type=Path, required=True, help="NAME.zip or a new folder")
    args = parser.parse_args()

    require_data(args.data)
    check_target(args.output)
    patches = index_patches(args.data, "train", labels=True, series=False, metadata=False)
    counts = count_classes(patches)
    if not counts.any():
        raise DataError(f"{args.data}: no training label is of the 12 classes; check_dataset.py counts them")
    index = int(counts.argmax())
    name = FLAIR_12.classes[index]
    print(f"{name}: {counts[index] / counts.sum():.1%} of the pixels", file=sys.stderr)
    files = {
        "model.py": MODEL.format(name=name, index=index).encode(),
        "metadata.yaml": f"description: every pixel is {name}\n".encode(),
    }
    write_submission(args.output, files)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
