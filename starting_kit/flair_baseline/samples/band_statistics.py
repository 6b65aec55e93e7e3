"""Mean and spread of each Sentinel-2 band, and how a new U-TAE takes them over.

Statistics of the aerial bands are published (model/aerial.py); for Sentinel-2 there are none, so a new run
measures them in its training patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flair_baseline.config import Config
from flair_baseline.model.utae import UTAE
from flair_baseline.samples.loader import PatchDataset
from flair_ingestion.dataset import Patch, sample_patches

SAMPLED_PATCHES = 64
SMALLEST_STD = 1e-3  # reflectance; a band that hardly varies in the sample is divided by this


def measure_series(patches: Sequence[Patch], config: Config) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band, float32 (10,) reflectances, in a sample drawn by the seed."""
    sample = sample_patches(patches, SAMPLED_PATCHES, config.seed)
    series = [PatchDataset([patch], config)[0].series for patch in sample]
    pixels = torch.cat([one.transpose(0, 1).flatten(1) for one in series if one is not None], dim=1).double()
    return pixels.mean(1).float(), pixels.std(1).float()


@torch.no_grad()
def standardise_series(utae: UTAE, means: Tensor, stds: Tensor) -> None:
    """Change a new U-TAE so that it computes as if its series were standardised by band.

    means and stds: float32 (10,). The first layer takes over the arithmetic: the numbers are in every
    checkpoint, and whoever uses the network feeds it reflectances.
    """
    first = utae.in_conv[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.weight /= stds.clamp(min=SMALLEST_STD)[:, None, None].to(first.weight)
    first.bias -= (first.weight.sum((2, 3)) * means.to(first.weight)).sum(1)
