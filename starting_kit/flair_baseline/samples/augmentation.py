"""Geometric augmentation (AUG in the datapaper) of a patch, its labels and its Sentinel-2 window together."""

from __future__ import annotations

import numpy as np
from torch import Tensor

PROBABILITY = 0.5
UNCHANGED = (False, False, 0)


def draw_transform(generator: np.random.Generator) -> tuple[bool, bool, int]:
    """Vertical flip, horizontal flip, quarter turns 0..3; each operation has the paper's probability 0.5."""
    vertical, horizontal, rotate = generator.random(3) < PROBABILITY
    return bool(vertical), bool(horizontal), int(generator.integers(4)) if rotate else 0


def transform(image: Tensor, vertical: bool, horizontal: bool, turns: int) -> Tensor:
    """Flip and turn the last two axes, which must be rows and columns.

    Rasters of different resolution with a common centre stay aligned under the same arguments.
    """
    # two quarter turns are both flips
    axes = [axis for axis, flips in ((-2, vertical), (-1, horizontal)) if flips != (turns == 2)]
    image = image.flip(axes) if axes else image
    return image.rot90(turns, (-2, -1)) if turns in (1, 3) else image
