"""Views of a patch for test-time augmentation: the eight flips and turns of a square, and their inverses."""

from __future__ import annotations

from torch import Tensor

View = tuple[int, bool]  # quarter turns 0..3, and whether the patch is flipped left to right before them

# The names of package.py --tta. Half a turn of the mirrored patch is the patch flipped upside down
VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, True), (2, False)),
    "d4": tuple((turns, flipped) for flipped in (False, True) for turns in range(4)),
}


def turn(image: Tensor, view: View) -> Tensor:
    """The view of an image: its last two axes, rows and columns, flipped and turned.

    Rasters of different resolution with a common centre, such as an aerial patch and its Sentinel-2 window,
    stay aligned under the same view.
    """
    turns, flipped = view
    image = image.flip(-1) if flipped else image
    return image.rot90(turns, (-2, -1)) if turns else image


def turn_back(image: Tensor, view: View) -> Tensor:
    """The image of which `image` is the view."""
    turns, flipped = view
    image = image.rot90(-turns, (-2, -1)) if turns else image
    return image.flip(-1) if flipped else image
