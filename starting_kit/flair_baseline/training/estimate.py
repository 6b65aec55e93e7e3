"""What a training run will take on this machine, from a few of its own steps. Nothing is written into RUN."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import TypeVar

import torch

from flair_baseline.config import Config
from flair_baseline.encoders import check_network
from flair_baseline.initial.given import Start, read_start
from flair_baseline.machines.distributed import from_rank_0, rank, world_size
from flair_baseline.machines.machine import be_deterministic, choose_device
from flair_baseline.samples.band_statistics import measure_series
from flair_baseline.samples.batches import batches_per_epoch, batches_per_step, share_step
from flair_baseline.samples.loader import Batch, index_training_patches, make_loader
from flair_baseline.samples.rarity import count_once
from flair_baseline.training.class_balance import balance_classes, measure_weights
from flair_baseline.training.event_files import opened_events
from flair_baseline.training.history import Row
from flair_baseline.training.learner import Learner, make_learner
from flair_baseline.training.loop import save_epoch, train_epoch
from flair_baseline.training.schedules import check_warmup
from flair_baseline.training.validation import validate
from flair_ingestion.dataset import Patch, sample_patches

MEASURED_STEPS = 8  # fewer where they take longer than PATIENCE
MEASURED_EPOCHS = 4  # at most so many short epochs make up these steps
MEASURED_BATCHES = 8  # of the validation, at least
PATIENCE = 60.0  # seconds
_MORE_STEPS = 1000  # than an epoch has: the measured steps must not reach the end of a schedule
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """What was measured: times in seconds, sizes in bytes.

    `start` passes once, before the first epoch. An epoch has `patches` and `steps`, which are no whole number
    where the last step is not full. Its `first_step` includes the start of the processes that read; each
    other `step` includes the time `waiting` for data. `validation` and `saving` follow.

    `memory` is the most that the main process has held, `reader_memory` that of a process that reads, 0
    without any, and `gpu_memory` what was allocated on the GPU, 0 without one. `files` is the size of RUN
    after the last epoch, `replaced` that of its largest file, which is there twice while it is replaced.
    """

    patches: int
    steps: float
    start: float
    first_step: float
    step: float
    waiting: float
    validation: float
    saving: float
    memory: int
    reader_memory: int
    gpu_memory: int
    files: int
    replaced: int

    @property
    def training(self) -> float:
        """Seconds of the steps of an epoch."""
        return self.first_step + max(self.steps - 1, 0) * self.step

    @property
    def epoch(self) -> float:
        """Seconds of an epoch."""
        return self.training + self.validation + self.saving


def estimate_run(config: Config, data: Path, start: Start | None = None) -> Estimate:
    """Prepare a run as `train` does, take some steps, validate some patches, save into a temporary folder.

    Pretrained weights are not loaded, and those of `start` are only read: they change no time. Under torchrun
    all ranks call this together. Raises what `train` raises before and in the first epoch of a new run.
    """
    begun = time.monotonic()
    be_deterministic(config.deterministic)
    device = choose_device(config.device)
    shared = share_step(config)
    given = read_start(start, config) if start is not None and rank() == 0 else None
    if from_rank_0(given is not None and given.has_encoder):
        shared = replace(shared, encoder_weights=None)
    check_network(shared, shared.batch_size * (world_size() if device.type == "cuda" else 1))
    training, held_out = index_training_patches(data, config)
    if len(training) < shared.batch_size:  # they are the only batch
        check_network(shared, len(training))
    steps = batches_per_epoch(len(training), shared) / batches_per_step(shared)
    check_warmup(shared, math.ceil(steps))
    if config.class_weights == "balanced":
        shared = balance_classes(shared, measure_weights(training, shared))
    learner = make_learner(replace(shared, encoder_weights=None), device, math.ceil(steps) + _MORE_STEPS)
    if learner.model.utae is not None:
        measure_series(training, config)
    if config.rare_classes:
        learner.class_counts = count_once(training, config, None)
    preparation = time.monotonic() - begun
    measured, losses = _measure_steps(learner, training, shared)
    validation, metrics = _measure_validation(learner, held_out, shared)
    numbers = {"epoch": 1, "seconds": 1.0, "learning_rate": learner.learning_rate}
    learner.rows.append(numbers | losses | metrics)
    saving, files, replaced = (
        _measure_saving(learner, held_out, shared, metrics) if rank() == 0 else (0.0, 0, 0)
    )
    return Estimate(
        patches=len(training),
        steps=steps,
        start=preparation,
        first_step=mean(measured.first_steps),
        step=mean(measured.steps or measured.first_steps),
        waiting=mean(measured.waits or measured.first_waits),
        validation=validation,
        saving=saving,
        memory=_peak_memory(children=False),
        reader_memory=_peak_memory(children=True) if _readers(config) else 0,
        gpu_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        files=files,
        replaced=replaced,
    )


@dataclass
class _Measured:
    """Seconds of first steps and of others, and how long each of them waited for data."""

    first_steps: list[float] = field(default_factory=list)
    first_waits: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def _measure_steps(learner: Learner, training: Sequence[Patch], config: Config) -> tuple[_Measured, Row]:
    """The steps of a few short epochs, or the first steps of a long one, and the losses of the last epoch."""
    per_step = batches_per_step(config)
    # Batches that were read ahead while the first ones were computed: where reading is slow, the steps that
    # they make are faster than those that follow
    ahead = math.ceil(2 * _readers(config) / per_step)
    train_epoch(learner, islice(make_loader(training, config, 0), per_step), config)  # the first step is slow
    measured, begun = _Measured(), time.monotonic()
    for epoch in range(1, MEASURED_EPOCHS + 1):
        marks: list[tuple[float, float]] = []  # of each batch: when it was asked for, when it was there

        def is_enough(marks: list[tuple[float, float]] = marks) -> bool:
            taken = len(marks) // per_step
            late = time.monotonic() - begun > PATIENCE and taken > 1
            return len(marks) % per_step == 0 and from_rank_0(late or taken > ahead + MEASURED_STEPS)

        losses = train_epoch(learner, _timed(make_loader(training, config, epoch), marks, is_enough), config)
        ends = [asked for asked, _ in marks[per_step::per_step]] + [time.monotonic()]
        starts = [asked for asked, _ in marks[::per_step]]
        times = [end - start for start, end in zip(starts, ends, strict=True)]
        waits = [there - asked for asked, there in marks]
        sums = [sum(waits[first : first + per_step]) for first in range(0, len(waits), per_step)]
        full = len(marks) // per_step or 1  # the last step of an epoch may have fewer batches
        skipped = min(1 + ahead, max(full - 1, 1))
        measured.first_steps.append(times[0])
        measured.first_waits.append(sums[0])
        measured.steps += times[skipped:full]
        measured.waits += sums[skipped:full]
        if from_rank_0(len(measured.steps) >= MEASURED_STEPS or time.monotonic() - begun > PATIENCE):
            break
    return measured, losses


def _timed(
    loader: Iterable[Batch], marks: list[tuple[float, float]], is_enough: Callable[[], bool]
) -> Iterator[Batch]:
    """The batches, until it is enough; `marks` gets the times at which each was asked for and was there."""
    asked = time.monotonic()
    for batch in loader:
        marks.append((asked, time.monotonic()))
        yield batch
        asked = time.monotonic()
        if is_enough():
            break


def _measure_validation(learner: Learner, held_out: Sequence[Patch], config: Config) -> tuple[float, Row]:
    """Seconds of the whole validation, from those of one batch and of several, and metrics of the latter."""
    batch = config.batch_size * world_size()
    few = sample_patches(held_out, batch, config.seed)
    seconds, _ = _time(lambda: validate(learner.kept_model, few, config))
    batches = max(MEASURED_BATCHES, 4 * _readers(config))
    batches = from_rank_0(max(2, min(batches, int(PATIENCE / seconds))))
    more = sample_patches(held_out, batches * batch, config.seed)
    longer, metrics = _time(lambda: validate(learner.kept_model, more, config))
    rest = len(held_out) - len(more)
    if rest:
        each = (longer - seconds) / (len(more) - len(few))
        longer += rest * (each if each > 0 else longer / len(more))
    return longer, metrics


def _measure_saving(
    learner: Learner, held_out: Sequence[Patch], config: Config, metrics: Row
) -> tuple[float, int, int]:
    """Seconds for the files of an epoch, the bytes of all files after the last one, those of the largest."""
    with tempfile.TemporaryDirectory(prefix="flair-estimate-") as folder:
        run = Path(folder)
        with opened_events(run, held_out, config) as write_events:

            def save() -> int:
                write_events(learner.kept_model, learner.rows[-1])
                save_epoch(run, learner, config, metrics)
                return sum(path.stat().st_size for path in run.iterdir())

            first = save()  # it imports what draws curves, and is slower
            seconds, second = _time(save)
        largest = max(path.stat().st_size for path in run.iterdir())
    return seconds, second + max(config.epochs - 2, 0) * (second - first), largest


def _time(call: Callable[[], T]) -> tuple[float, T]:
    begun = time.monotonic()
    result = call()
    return time.monotonic() - begun, result


def _readers(config: Config) -> int:
    """The number of processes that read."""
    return min(config.workers, os.cpu_count() or 1)


def _peak_memory(children: bool) -> int:
    """Bytes that this process, or the largest of its children that have ended, has held; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource

    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
