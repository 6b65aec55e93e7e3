"""Bands and scaling of the pixels that given weights were trained with, and a first layer for ours.

Our network reads (pixel - mean) / std, computed from 8-bit values. Where the statistics of a source are
published, its first layer is changed so that it computes from our numbers what it computed from its own. The
factor of a band goes into the weights, which is exact. The shift of a band becomes a constant, which the
layer's bias takes, or the mean of the batch norm behind it. A layer that pads its input with zeros, such as
that of a ResNet, sees another value there than before, so its outputs at the border of a patch differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flair_scoring.base.errors import UsageError

BANDS = "RVBIE"  # red, green (V), blue, near infrared, elevation


# band letter -> mean and standard deviation in 8-bit values; pixels are read as (pixel - mean) / std
Scaling = Mapping[str, tuple[float, float]]


def make_scaling(bands: str, means: Sequence[float], stds: Sequence[float]) -> Scaling:
    """The scaling of bands from their statistics, in the same order."""
    return dict(zip(bands, zip(means, stds, strict=True), strict=True))


# --init-pixels, and what the sources' own configurations say
SCALINGS: dict[str, Scaling | None] = {
    "kit": None,  # as here
    "flair-1": make_scaling(
        BANDS, (105.08, 110.87, 101.82, 106.38, 53.26), (52.17, 45.38, 44.0, 39.69, 79.3)
    ),
    "flair-hub": make_scaling("RVBI", (105.66, 111.35, 102.18, 106.59), (52.23, 45.62, 44.29, 39.78)),
    "0-1": make_scaling(BANDS, (0,) * 5, (255,) * 5),
}


def check_bands(letters: str) -> None:
    """UsageError unless these are the letters of bands, each at most once."""
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(BANDS):
        raise UsageError(
            f"--init-channels {letters}: expected different letters of {BANDS}: red, green (V), blue, near "
            "infrared (I) and elevation"
        )


def adapt_bands(weight: Tensor, theirs: str, ours: str) -> Tensor:
    """Weights (outputs, bands, h, w) for `theirs` -> for `ours`, float32: same band, same weights.

    Bands that the file lacks get weights of 0, so that training begins with the network as it was given.
    Nothing is scaled for bands that we lack.
    """
    adapted = weight.new_zeros(weight.shape[0], len(ours), *weight.shape[2:], dtype=torch.float32)
    for index, band in enumerate(ours):
        if band in theirs:
            adapted[:, index] = weight[:, theirs.index(band)].float()
    return adapted


def rescale(weight: Tensor, bands: str, theirs: Scaling, ours: Scaling) -> tuple[Tensor, Tensor]:
    """Weights (outputs, bands, h, w) that read our scaling, and a constant (outputs,) to add to the outputs.

    Bands that `theirs` lacks stay as they are.
    """
    weight, constant = weight.double(), torch.zeros(weight.shape[0], dtype=torch.float64)
    for index, band in enumerate(bands):
        if band in theirs:
            (mean, std), (own_mean, own_std) = theirs[band], ours[band]
            constant += weight[:, index].sum((1, 2)) * ((own_mean - mean) / std)
            weight[:, index] *= own_std / std
    return weight.float(), constant.float()
