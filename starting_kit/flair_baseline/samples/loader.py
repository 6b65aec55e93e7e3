"""Patches for training and validation, read by the same code that feeds submissions on the platform."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info
from tqdm import tqdm

from flair_baseline.config import Config
from flair_baseline.machines.distributed import rank
from flair_baseline.model.metadata import encode_metadata
from flair_baseline.model.sentinel import pad_series, prepare_series
from flair_baseline.samples.augmentation import UNCHANGED, draw_transform, transform
from flair_baseline.samples.batches import cut_batches, draw_batches
from flair_baseline.samples.photometry import change_light, draw_light
from flair_ingestion.dataset import (
    Patch,
    describe_gaps,
    find_roots,
    read_image,
    read_labels,
    read_superpatch,
    scan_split,
)
from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.nomenclature import FLAIR_12

FLAIR_1_SWAP = ("D077_2021", "D070_2020")  # validation domains: the data card's, and FLAIR #1's instead of it


class Sample(NamedTuple):
    """A patch as the model reads it; None for what the configuration leaves out.

    aerial uint8 (5, 512, 512); labels uint8 (512, 512), class indices 0..12; series float32 (T, 10, S, S) and
    days float32 (T,) from `prepare_series`; metadata float32 (45,) from `encode_metadata`.
    """

    aerial: Tensor
    labels: Tensor
    series: Tensor | None = None
    days: Tensor | None = None
    metadata: Tensor | None = None


class Batch(NamedTuple):
    """The arguments of `UTT.forward`, and the labels uint8 (B, 512, 512) with class indices 0..12."""

    inputs: tuple[Tensor | None, ...]
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = tuple(
            tensor if tensor is None else tensor.to(device, non_blocking=True) for tensor in self.inputs
        )
        return Batch(inputs, self.labels.to(device, non_blocking=True))


class PatchDataset(Dataset):
    """Samples of the given patches.

    With an `epoch`, (seed, epoch, index) decide how each one is turned and in which light it is shown. Of N
    patches, the index i + N stands for the patch i as well (see `draw_batches`).
    """

    def __init__(self, patches: Sequence[Patch], config: Config, epoch: int | None = None) -> None:
        self.patches, self.config, self.epoch = patches, config, epoch

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        patch, config, turn = self.patches[index % len(self)], self.config, UNCHANGED
        if config.augmentation and self.epoch is not None:
            turn = draw_transform(np.random.default_rng((config.seed, self.epoch, index)))
        read = _start_reading(patch)
        labels = torch.from_numpy(read_labels(patch))
        # as FLAIR_12.index_of, faster: 1..12 become 0..11; all others, also 0 by way of 255, become *other*
        labels.sub_(1).clamp_(max=FLAIR_12.other)
        series = days = None
        if config.satellite:
            window = read_superpatch(patch, config.superpatch_size, copy=False)
            options = config.cloud_filter, config.monthly_average, config.cloud_rule, config.official_layers
            series, days = prepare_series(window.data, window.masks, window.dates, *options)
            if not series.any():
                raise DataError(
                    f"{patch.super_area.data}: no data (0 on all dates) around IMG_{patch.id}; unpack it "
                    "again, and let check_dataset.py look for others"
                )
            series = transform(series, *turn)
            if config.permute_dates:
                generator = np.random.default_rng((config.seed, self.epoch or 0, index, 1))
                days = days[torch.from_numpy(generator.permutation(len(days)))]
        metadata = encode_metadata(patch.metadata) if config.metadata else None
        aerial = torch.from_numpy(read())
        if config.photometric and self.epoch is not None:
            generator = np.random.default_rng((config.seed, self.epoch, index, 2))
            change_light(aerial, draw_light(generator, config.photometric))
        aerial = transform(aerial, *turn)
        return Sample(aerial, transform(labels, *turn), series, days, metadata)


def _start_reading(patch: Patch) -> Callable[[], np.ndarray]:
    """Begin to decode the patch's image in a thread; returns the function that waits and returns the image.

    The thread runs beside this one, because the decoder releases the GIL. A worker process decodes without a
    thread, when the image is asked for: the other cores have workers of their own.
    """
    if get_worker_info() is not None:
        return functools.partial(read_image, patch)
    return _image_thread().submit(read_image, patch).result


@functools.cache
def _image_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "image")


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of samples, whose shorter series are padded."""
    aerial, labels, series, days, metadata = zip(*samples, strict=True)
    inputs: tuple[Tensor | None, ...] = (_stack(aerial),)
    if series[0] is not None:
        inputs += pad_series(series, days)
    if metadata[0] is not None:
        inputs += (None,) * (4 - len(inputs)) + (torch.stack(metadata),)
    return Batch(inputs, _stack(labels))


def _stack(images: Sequence[Tensor]) -> Tensor:
    """As torch.stack; a worker writes straight into the memory that it shares with the main process."""
    return default_collate(list(images))


def index_training_patches(data: Path, config: Config) -> tuple[list[Patch], list[Patch]]:
    """The patches to train on and those to validate on, sorted by id.

    DataError names the problems of both together. Files that the configuration does not read may be absent.
    """
    (training, problems), (held_out, others) = (
        scan_split(data, split, labels=True, series=config.satellite, metadata=config.metadata)
        for split in ("train", "val")
    )
    if problems or others:
        found = list(dict.fromkeys([*problems, *others]))  # a file that both need is named once
        message = list_problems(f"{data}: the training data are incomplete or damaged", found)
        if config.satellite and not find_roots(data, "sen", "train"):
            message += "\nwithout the Sentinel-2 archives a configuration trains with satellite=false"
        raise DataError(message)
    if rank() == 0:
        for gap in describe_gaps(data, {"train": training, "val": held_out}):
            print(f"note: {gap}", file=sys.stderr)
    if config.validation == "flair_1":
        leaves, enters = FLAIR_1_SWAP
        every = sorted([*training, *held_out], key=lambda patch: patch.id)
        domains = {patch.domain for patch in held_out} - {leaves} | {enters}
        training = [patch for patch in every if patch.domain not in domains]
        held_out = [patch for patch in every if patch.domain in domains]
        if not held_out:
            raise DataError(f"{data}: none of the validation domains of validation=flair_1 is there")
    return training, held_out


def make_loader(
    patches: Sequence[Patch],
    config: Config,
    epoch: int | None = None,
    probabilities: np.ndarray | None = None,
) -> DataLoader:
    """This rank's training batches of an `epoch` (see `draw_batches`); without epoch all patches in order."""
    if epoch is None:
        batches = cut_batches(list(range(len(patches))), config.batch_size)
    else:
        batches = draw_batches(len(patches), config, epoch, probabilities)
    return DataLoader(
        PatchDataset(patches, config, epoch),
        batch_sampler=batches,
        num_workers=min(config.workers, os.cpu_count() or 1),
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def show_progress(loader: Iterable[Batch], title: str) -> tqdm:
    """The batches of the loader, with a progress bar on rank 0 if its stderr is a terminal."""
    disable = None if rank() == 0 else True  # None lets tqdm find out whether there is a terminal
    return tqdm(loader, title, unit="batch", dynamic_ncols=True, leave=False, disable=disable)
