"""Class weights from the training labels (class_weights=balanced).

In each branch K classes have a listed weight above 0. If f is the share of such a class in the pixels of all
of them, its balance is r = min(1 / (K f), 10): 1 for a class with the K-th part of the pixels, 10 for a class
that is ten times as rare or rarer, or that does not occur. Its weight is its listed weight times r, divided
by the mean of r over the K classes. A listed weight of 0 stays 0: *other* is never learned.

All training labels are counted. One of the toy data costs 1.2 ms of a core, so the 61,712 of FLAIR #2 take
about a minute on one core, plus the time to read them from the disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from flair_baseline.config import Config
from flair_baseline.machines.distributed import rank, sum_over_ranks
from flair_baseline.samples.batches import share_of_rank
from flair_baseline.samples.class_counts import count_classes
from flair_ingestion.dataset import Patch
from flair_scoring.base.errors import DataError
from flair_scoring.nomenclature import FLAIR_12

HIGHEST_BALANCE = 10.0
KEYS = ("aerial_class_weights", "satellite_class_weights")


def balance_classes(config: Config, measured: Mapping[str, Sequence[float]]) -> Config:
    """The configuration with measured class weights in place of its listed ones."""
    aerial, satellite = (tuple(measured[key]) for key in KEYS)
    return replace(config, aerial_class_weights=aerial, satellite_class_weights=satellite)


def measure_weights(patches: Sequence[Patch], config: Config) -> dict[str, list[float]]:
    """The balanced weights of both branches, by key, from the labels of all patches; the same on all ranks.

    Each rank reads its share of the labels, in as many threads as `workers`. DataError for labels that cannot
    be read, and when none of them holds a class that a branch learns.
    """
    started = time.monotonic()
    threads = min(config.workers, os.cpu_count() or 1)
    own = count_classes(share_of_rank(patches), threads).sum(axis=0)
    counts = sum_over_ranks(torch.from_numpy(own)).numpy()
    for key in KEYS if config.satellite else KEYS[:1]:
        if not counts[np.array(getattr(config, key)) > 0].any():
            raise DataError(
                "class_weights=balanced: no pixel of the training labels has a class with a weight above 0 "
                f"in {key}; look at the labels, or give other weights"
            )
    measured = {key: balance(getattr(config, key), counts) for key in KEYS}
    if rank() == 0:
        found = zip(FLAIR_12.classes_with_other, measured[KEYS[0]], strict=True)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in found)
        print(
            f"class_weights=balanced: {len(patches)} label images counted in "
            f"{time.monotonic() - started:.0f} s; aerial weights: {weights}",
            file=sys.stderr,
        )
    return measured


def balance(listed: Sequence[float], counts: np.ndarray) -> list[float]:
    """The balanced weights of a branch from its listed ones and the numbers of pixels, by class index."""
    weights = np.array(listed, float)
    learned = weights > 0
    pixels = counts[learned].astype(float)
    balances = np.full(len(pixels), HIGHEST_BALANCE)
    np.divide(pixels.sum(), learned.sum() * pixels, out=balances, where=pixels > 0)
    balances = balances.clip(max=HIGHEST_BALANCE)
    weights[learned] *= balances / balances.mean()
    return weights.tolist()
