"""Training patches with rare classes are drawn more often than others."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flair_baseline.config import Config
from flair_baseline.machines.distributed import from_rank_0, rank
from flair_baseline.samples.class_counts import count_classes
from flair_ingestion.dataset import Patch
from flair_scoring.base.errors import DataError
from flair_scoring.nomenclature import FLAIR_12


def count_once(patches: Sequence[Patch], config: Config, known: Tensor | None) -> Tensor:
    """Pixels of each class in each patch, int32 (N, 13), the same on all ranks.

    `known` are those of the run that is resumed. Unless they are there, rank 0 counts.
    """
    if known is not None and len(known) == len(patches):
        return known
    if rank() == 0:
        print(
            f"rare_classes: counting the classes of {len(patches):,} patches, once in a run", file=sys.stderr
        )
    counts = from_rank_0(count_classes(patches, config.workers) if rank() == 0 else None)
    return torch.from_numpy(counts).int()


def draw_probabilities(counts: Tensor, config: Config) -> np.ndarray:
    """How likely a draw takes each patch: float64 (N,), sum 1, from the pixels of each class in it (N, 13).

    The probability of a patch is proportional to

        (sum over the scored classes of: share of the class in the patch / share of it in all patches)
            ** rare_classes

    The sum has a mean of 12 over the patches, one for each class that occurs. A patch that is half vineyard
    has 0.5 / 0.003 = 167 of it alone, if 0.3 % of all pixels are vineyard: with rare_classes=1 such a patch
    is drawn about 14 times as often as the mean patch, with 0.5 about 4 times. A patch of nothing but *other*
    is never drawn. DataError when all patches are of that kind.
    """
    pixels = counts.double().numpy()
    shares = (pixels / pixels.sum(1, keepdims=True))[:, : FLAIR_12.num_classes]
    overall = pixels.sum(0)[: FLAIR_12.num_classes] / pixels.sum()
    occurring = overall > 0
    rarity = (shares[:, occurring] / overall[occurring]).sum(1)
    weights = np.where(rarity > 0, rarity**config.rare_classes, 0)
    if not weights.any():
        raise DataError("rare_classes: all labels of the training patches are *other*; look at them")
    return weights / weights.sum()
