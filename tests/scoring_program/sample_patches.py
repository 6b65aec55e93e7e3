"""A few patches in three domains: masks as IGN would deliver them, predictions that are partly right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flair_scoring.raster import write_labels

PLACES = {
    "077413": "D015_2020/Z1_AN",
    "077414": "D015_2020/Z2_UU",
    "080001": "D022_2021/Z1_NF",
    "085221": "D061_2020/Z3_AU",
}


@dataclass(frozen=True)
class Patches:
    """Folders of predictions and references, and what is in them by id."""

    predictions: Path
    references: Path
    labels: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]

    def prediction(self, id: str) -> Path:
        return self.predictions / f"PRED_{id}.tif"

    def reference(self, id: str) -> Path:
        return self.references / PLACES[id] / "msk" / f"MSK_{id}.tif"


def random_mask(seed: int, values: int = 20) -> np.ndarray:
    """Patches of 16 x 16 pixels with values 1..values-1, uint8 (512, 512)."""
    blocks = np.random.default_rng(seed).integers(1, values, (32, 32), dtype=np.uint8)
    return np.kron(blocks, np.ones((16, 16), np.uint8))


def make_patches(folder: Path) -> Patches:
    """Write the patches below `folder`."""
    made = Patches(folder / "predictions", folder / "references", {}, {})
    made.predictions.mkdir()
    for seed, id in enumerate(PLACES):
        made.masks[id] = random_mask(seed)
        noise = random_mask(seed + 100, 14) - 1
        right = np.random.default_rng(seed).random((512, 512)) < 0.7
        made.labels[id] = np.where(right, np.minimum(made.masks[id] - 1, 12), noise).astype(np.uint8)
        made.reference(id).parent.mkdir(parents=True)
        write_labels(made.reference(id), made.masks[id])
        write_labels(made.prediction(id), made.labels[id])
    return made
