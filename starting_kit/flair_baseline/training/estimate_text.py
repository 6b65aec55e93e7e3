"""An estimate of a training run, as the lines that train.py prints."""

from __future__ import annotations

import os

from flair_baseline.config import Config
from flair_baseline.training.estimate import Estimate

WAITING = 0.2  # share of a step that waits for data; beyond it, reading is the bottleneck


def describe_estimate(estimate: Estimate, config: Config) -> list[str]:
    """The time of a step, of an epoch and of the run, its memory and its files, each in a line."""
    patches = min(config.effective_batch_size, estimate.patches)
    run = estimate.start + config.epochs * estimate.epoch
    lower = config.schedule == "plateau" and config.epochs > config.stopping_patience
    memory = [f"{_size(estimate.memory)} in the main process"] if estimate.memory else []
    if estimate.reader_memory:
        memory.append(f"up to {_size(estimate.reader_memory)} in each process that reads, partly the same")
    if estimate.gpu_memory:
        memory.append(f"{_size(estimate.gpu_memory)} allocated on the GPU")
    step, waiting = _duration(estimate.step), _duration(estimate.waiting)
    training, validation = _duration(estimate.training), _duration(estimate.validation)
    return [
        f"step: {step} for {patches} patches; {waiting} of it waits for data",
        f"epoch: {_duration(estimate.epoch)}; {estimate.steps:.4g} steps take {training}, the validation "
        f"{validation}, the files {_duration(estimate.saving)}",
        f"run: {'at most ' if lower else ''}{_duration(run)} for {config.epochs} epochs",
        f"memory: {', '.join(memory) or 'not known on this system'}",
        f"disk: {_size(estimate.files)} in RUN, and {_size(estimate.replaced)} more while a file is replaced",
    ]


def describe_concerns(estimate: Estimate, config: Config) -> list[str]:
    """A sentence for each thing that makes the run slower or worse than it need be."""
    concerns = []
    if estimate.patches < config.effective_batch_size:
        concerns.append(
            f"an epoch is less than one full step: there are {estimate.patches} training patches, and "
            f"effective_batch_size is {config.effective_batch_size}; lower effective_batch_size"
        )
    share, cores = estimate.waiting / estimate.step, os.cpu_count() or 1
    if share > WAITING:
        advice = (
            f"raise workers, which is {config.workers}" if config.workers < cores else "more cores would help"
        )
        concerns.append(f"{share:.0%} of a step waits for data: {advice}; this machine has {cores} cores")
    return concerns


def _duration(seconds: float) -> str:
    """Three digits: 0.123 s, 12.3 s, 4.2 min, 5.1 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _size(count: int) -> str:
    return f"{count / 2**20:.3g} MiB" if count < 2**30 else f"{count / 2**30:.3g} GiB"
