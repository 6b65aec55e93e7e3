"""Geometric augmentation (AUG in the datapaper): a patch turns with its labels and its Sentinel-2 window."""

from __future__ import annotations

import numpy as np

PROBABILITY = 0.5
UNCHANGED = (False, False, 0)


def draw_transform(generator: np.random.Generator) -> tuple[bool, bool, int]:
    """Vertical flip, horizontal flip, quarter turns 0..3: each operation with the paper's probability 0.5."""
    vertical, horizontal, rotate = generator.random(3) < PROBABILITY
    return bool(vertical), bool(horizontal), int(generator.integers(4)) if rotate else 0


def transform(image: np.ndarray, vertical: bool, horizontal: bool, turns: int) -> np.ndarray:
    """Flip and turn the last two axes, which must be rows and columns; returns a contiguous array.

    The same arguments keep rasters of any resolution aligned, as long as they share their centre.
    """
    if vertical:
        image = image[..., ::-1, :]
    if horizontal:
        image = image[..., ::-1]
    return np.ascontiguousarray(np.rot90(image, turns, axes=(-2, -1)))
