"""How the patches of a training run are divided into ranks, steps and batches.

In a step, all ranks together compute one gradient from `effective_batch_size` patches. Each rank computes its
share of them in batches of `batch_size` patches. This module counts; it reads no patch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from flair_baseline.config import Config
from flair_baseline.machines.distributed import rank, world_size
from flair_scoring.base.errors import UsageError

T = TypeVar("T")


def share_step(config: Config) -> Config:
    """The configuration, with a smaller batch_size where a rank's share of a step is smaller than a batch."""
    share, rest = divmod(config.effective_batch_size, world_size())
    return config if rest or share > config.batch_size else replace(config, batch_size=share)


def batches_per_step(config: Config) -> int:
    """How many batches each rank has in a step; UsageError when the ranks cannot share a step evenly."""
    batches, rest = divmod(config.effective_batch_size // config.batch_size, world_size())
    if rest:
        raise UsageError(
            f"effective_batch_size={config.effective_batch_size} is no multiple of {world_size()} ranks with "
            f"batch_size={config.batch_size} each; change one of the three"
        )
    return batches


def batches_per_epoch(patches: int, config: Config) -> int:
    """How many training batches each rank has in an epoch over so many patches.

    All ranks have the same number of batches. A last batch that is not full is left out, because batch norm
    needs many patches, unless it is the only one. UsageError when there are fewer batches than ranks.
    """
    batches = max(patches // config.batch_size, min(patches, 1))
    if batches < world_size():
        raise UsageError(
            f"{patches} training patches make {batches} batches of {config.batch_size}, "
            f"too few for {world_size()} ranks; lower batch_size or start fewer ranks"
        )
    return batches // world_size()


def steps_per_epoch(patches: int, config: Config) -> int:
    """How many steps an epoch over so many patches has; UsageError as the two functions above."""
    return math.ceil(batches_per_epoch(patches, config) / batches_per_step(config))


def draw_batches(
    patches: int, config: Config, epoch: int, probabilities: np.ndarray | None = None
) -> list[list[int]]:
    """This rank's batches in a training epoch, as indices 0..patches - 1 in an order drawn by (seed, epoch).

    With probabilities, float64 (patches,), so many patches are drawn with replacement. When the patch i is
    drawn again, it has the index i + patches, then i + 2 * patches, and so on: `PatchDataset` augments it in
    another way.

    Consecutive batches go to consecutive ranks, so a step has the same patches on any number of ranks.
    """
    generator = np.random.default_rng((config.seed, epoch))
    order = list(range(patches))
    if probabilities is None:
        generator.shuffle(order)
    else:
        order = _number_draws(generator.choice(patches, patches, p=probabilities).tolist(), patches)
    shared = batches_per_epoch(patches, config) * world_size()
    return cut_batches(order, config.batch_size)[rank() : shared : world_size()]


def _number_draws(drawn: list[int], patches: int) -> list[int]:
    """The drawn indices; the second draw of an index gets `patches` added to it, the third twice that."""
    earlier: Counter[int] = Counter()
    numbered = []
    for index in drawn:
        numbered.append(index + patches * earlier[index])
        earlier[index] += 1
    return numbered


def cut_batches(order: list[int], batch_size: int) -> list[list[int]]:
    """All indices in batches of neighbours; the last batch may be smaller."""
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def share_of_rank(items: Sequence[T]) -> Sequence[T]:
    """This rank's run of neighbouring items; every item belongs to exactly one rank."""
    first = len(items) * rank() // world_size()
    end = len(items) * (rank() + 1) // world_size()
    return items[first:end]
