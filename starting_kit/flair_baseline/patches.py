"""Patches for training and validation, read by the same code that feeds submissions on the platform."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flair_baseline.augmentation import UNCHANGED, draw_transform, transform
from flair_baseline.config import Config
from flair_baseline.sentinel import pad_series, prepare_series
from flair_ingestion.dataset import Patch, read_image, read_labels, read_superpatch
from flair_scoring.nomenclature import FLAIR_12


class Batch(NamedTuple):
    """The arguments of `UTT.forward`, and the labels uint8 (B, 512, 512) with class indices 0..12."""

    inputs: tuple[Tensor, ...]
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = tuple(tensor.to(device, non_blocking=True) for tensor in self.inputs)
        return Batch(inputs, self.labels.to(device, non_blocking=True))


class PatchDataset(Dataset):
    """Samples of the given patches; with an `epoch` they are turned as (seed, epoch, place) decide.

    A sample is aerial uint8 (5, 512, 512), labels uint8 (512, 512) and, for a model with a satellite branch,
    what `prepare_series` returns.
    """

    def __init__(self, patches: Sequence[Patch], config: Config, epoch: int | None = None) -> None:
        self.patches, self.config, self.epoch = patches, config, epoch

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, place: int) -> tuple[Tensor, ...]:
        patch, config, turn = self.patches[place], self.config, UNCHANGED
        if config.augmentation and self.epoch is not None:
            turn = draw_transform(np.random.default_rng((config.seed, self.epoch, place)))
        rasters = read_image(patch), FLAIR_12.index_of[read_labels(patch)]
        aerial, labels = (torch.from_numpy(transform(raster, *turn)) for raster in rasters)
        if not config.satellite:
            return aerial, labels
        window = read_superpatch(patch, config.superpatch_size)
        data, masks = (transform(raster, *turn) for raster in (window.data, window.masks))
        series = prepare_series(data, masks, window.dates, config.cloud_filter, config.monthly_average)
        return aerial, labels, *series


def collate(samples: Sequence[tuple[Tensor, ...]]) -> Batch:
    """One batch; shorter series are padded."""
    aerial, labels, *satellite = zip(*samples, strict=True)
    padded = pad_series(*satellite) if satellite else ()
    return Batch((torch.stack(aerial), *padded), torch.stack(labels))


def make_loader(patches: Sequence[Patch], config: Config, epoch: int | None = None) -> DataLoader:
    """Batches in the order of `patches`, or for training in the order that (seed, epoch) decide.

    In training a last batch that is not full is left out, for batch norm's sake, unless it is the only one.
    """
    order = list(range(len(patches)))
    if epoch is not None:
        np.random.default_rng((config.seed, epoch)).shuffle(order)
    return DataLoader(
        PatchDataset(patches, config, epoch),
        batch_size=config.batch_size,
        sampler=order,
        num_workers=min(config.workers, os.cpu_count() or 1),
        collate_fn=collate,
        drop_last=epoch is not None and len(patches) >= config.batch_size,
        pin_memory=torch.cuda.is_available(),
    )
