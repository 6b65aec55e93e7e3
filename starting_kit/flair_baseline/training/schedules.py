"""Schedules of the learning rate: per epoch by the validation loss, or per step over the whole run.

plateau: the rate is halved, down to 1e-7, when the validation loss has not fallen for plateau_patience
epochs.

one_cycle: torch's OneCycleLR over all steps of the run, with learning_rate as its highest rate. It also moves
the momentum of sgd, and the first beta of adamw, from 0.95 to 0.85 and back.

cosine: step s of N (s = 0, 1, …) has the rate learning_rate * (s + 1) / (W + 1) while s < W = warmup_steps.
Afterwards it has low + (learning_rate - low) * (1 + cos(pi (s - W) / (N - 1 - W))) / 2. In the last step it
is low = learning_rate / 100.
"""

from __future__ import annotations

import math
import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from flair_baseline.config import Config
from flair_scoring.base.errors import UsageError

LOWEST_SHARE = 0.01  # of learning_rate, in the last step of cosine
LENGTHENED = "plateau"  # the only schedule that does not depend on the number of epochs


def make_schedule(config: Config, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """The schedule of a run at its first step; UsageError when the run has too few steps for warmup_steps."""
    check_warmup(config, steps_per_epoch)
    steps = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        return OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps)
    if config.schedule == "cosine":
        return LambdaLR(optimizer, lambda step: cosine_share(step, config.warmup_steps, steps))
    # the paper gives the patience; the other numbers are those of FLAIR #1's published code
    patience = config.plateau_patience
    return ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, cooldown=4, min_lr=1e-7)


def check_warmup(config: Config, steps_per_epoch: int) -> None:
    """UsageError when the run has no step after its warmup_steps."""
    steps = config.epochs * steps_per_epoch
    if config.warmup_steps and config.warmup_steps >= steps:
        raise UsageError(
            f"warmup_steps={config.warmup_steps}: the run has {steps} steps in all "
            f"(epochs={config.epochs}, steps in each: {steps_per_epoch}); choose fewer, or more epochs"
        )


def cosine_share(step: int, warmup: int, steps: int) -> float:
    """The rate of a step, counted from 0, as a share of learning_rate."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return LOWEST_SHARE + (1 - LOWEST_SHARE) * (1 + math.cos(math.pi * progress)) / 2


def finish_step(schedule: LRScheduler) -> None:
    """Go on to the rate of the next step; plateau waits for the end of the epoch.

    A step that was skipped because a float16 gradient overflowed counts, so that the schedule ends with the
    run. A resumed run may have more steps than it was begun with: they keep the last rate of one_cycle.
    """
    if isinstance(schedule, OneCycleLR) and schedule.last_epoch >= schedule.total_steps - 1:
        schedule.last_epoch += 1  # torch would raise the rate again, then refuse to go on
        return
    if not isinstance(schedule, ReduceLROnPlateau):
        with warnings.catch_warnings():
            # torch warns if the very first step of the optimizer was skipped
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            schedule.step()


def finish_epoch(schedule: LRScheduler, validation_loss: float) -> None:
    """Tell plateau the validation loss of the epoch; the other schedules have gone on with each step."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(validation_loss)
