"""Geometric augmentation (AUG in the datapaper): a patch turns with its labels and its Sentinel-2 window."""

from __future__ import annotations

import numpy as np
from torch import Tensor

PROBABILITY = 0.5
UNCHANGED = (False, False, 0)


def draw_transform(generator: np.random.Generator) -> tuple[bool, bool, int]:
    """Vertical flip, horizontal flip, quarter turns 0..3: each operation with the paper's probability 0.5."""
    vertical, horizontal, rotate = generator.random(3) < PROBABILITY
    return bool(vertical), bool(horizontal), int(generator.integers(4)) if rotate else 0


def transform(image: Tensor, vertical: bool, horizontal: bool, turns: int) -> Tensor:
    """Flip and turn the last two axes, which must be rows and columns.

    The same arguments keep rasters of any resolution aligned, as long as they share their centre.
    """
    axes = [axis for axis, flips in ((-2, vertical), (-1, horizontal)) if flips != (turns == 2)]  # 2: both
    image = image.flip(axes) if axes else image
    return image.rot90(turns, (-2, -1)) if turns in (1, 3) else image
