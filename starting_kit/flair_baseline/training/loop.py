"""Training of U-T&T: epochs of accumulated steps, each followed by validation and checkpoints.

What an epoch draws at random follows from (seed, epoch), so a resumed run goes on as if it had never stopped:
bit for bit on the CPU, and on GPUs with deterministic=true.
Under torchrun the ranks share every step, whose loss is that of all their pixels, and the validation.
The paper's recipe: SGD at 0.001, lowered when the validation loss stalls for 10 epochs, stopped after 30. The
checkpoint that is kept is the one with the best validation mIoU, the quantity that the challenge scores.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from tqdm import tqdm

from flair_baseline.checkpoint import PROVENANCE, STATE, save_model, save_state
from flair_baseline.config import Config, to_dict
from flair_baseline.encoders import check_network
from flair_baseline.training.band_statistics import measure_series, standardise_series
from flair_baseline.training.batches import batches_per_step, share_step, steps_per_epoch
from flair_baseline.training.distributed import average_buffers, from_rank_0, rank, sum_over_ranks, world_size
from flair_baseline.training.history import (
    CURVES,
    TABLE,
    Row,
    best_row,
    draw_curves,
    epochs_since_lowest_loss,
    write_table,
)
from flair_baseline.training.learner import Learner, make_learner
from flair_baseline.training.loader import Batch, index_training_patches, make_loader
from flair_baseline.training.losses import class_weights, sum_losses, sum_weights
from flair_baseline.training.machine import autocast, be_deterministic, choose_device
from flair_baseline.training.run_folder import claimed, find_state
from flair_baseline.training.validation import validate
from flair_ingestion.dataset import Patch
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.interrupts import held_signals


def train(config: Config, data: Path, run: Path, resume: bool = False) -> Row:
    """Train on the training domains of DATA into the folder RUN; returns the row of the best epoch.

    RUN gets model.safetensors and model.json (best epoch), last.pt (to resume), log.csv and curves.png.
    UsageError when RUN holds a run and `resume` is not asked for, when that run has another configuration,
    when another process trains there, and when a loss is no longer finite.
    """
    with claimed(run) if rank() == 0 else nullcontext():
        return _train(config, data, run, resume)


def _train(config: Config, data: Path, run: Path, resume: bool) -> Row:
    be_deterministic(config.deterministic)
    device = choose_device(config.device)
    state = from_rank_0(find_state(run, config, resume) if rank() == 0 else None)
    shared = share_step(config)
    # on GPUs batch norm takes the statistics of all ranks together
    check_network(shared, shared.batch_size * (world_size() if device.type == "cuda" else 1))
    training, held_out = index_training_patches(data, config)
    fresh = shared if state is None else replace(shared, encoder_weights=None)  # nothing to download again
    learner = make_learner(fresh, device, steps_per_epoch(len(training), shared))
    if state is not None:
        restore(learner, state, run)
    elif learner.model.utae is not None:
        standardise_series(learner.model.utae, *measure_series(training, config))
    rows = learner.rows
    if rank() == 0:
        place = f"continues after epoch {len(rows)} of {config.epochs}" if rows else "a new run begins"
        print(f"{run}: {place}", file=sys.stderr)
    while len(rows) < config.epochs and epochs_since_lowest_loss(rows) < config.stopping_patience:
        metrics = run_epoch(learner, training, held_out, shared)
        if rank() != 0:
            continue
        with held_signals():
            if best_row(rows) is rows[-1]:
                save_model(run, learner.model, config, len(rows), metrics)
            write_table(run / TABLE, rows)
            draw_curves(run / CURVES, rows)
            save_state(run, learner.state() | {"config": to_dict(config)})  # last: all it counts is on disk
    return best_row(rows)


def restore(learner: Learner, state: dict[str, Any], run: Path) -> None:
    """Continue from the state in RUN; DataError when it does not fit the network."""
    try:
        learner.restore(state)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # torch's, by part
        raise DataError(
            f"{run / STATE}: does not fit the network of its configuration; continue with the libraries that "
            f"it was begun with ({run / PROVENANCE} names them), or choose another --output"
        ) from error


def run_epoch(learner: Learner, training: Sequence[Patch], held_out: Sequence[Patch], config: Config) -> Row:
    """One epoch and its validation, appended to the learner's rows; returns the validation's metrics."""
    started, epoch, rate = time.monotonic(), len(learner.rows), learner.learning_rate
    torch.manual_seed(int(np.random.SeedSequence((config.seed, epoch, rank())).generate_state(1)[0]))
    losses = train_epoch(learner, make_loader(training, config, epoch), config)
    average_buffers(learner.model)
    metrics = validate(learner.model, held_out, config)
    require_finite(metrics["val_loss"], f"epoch {epoch + 1}/{config.epochs}: the validation loss")
    if isinstance(learner.scheduler, ReduceLROnPlateau):
        learner.scheduler.step(metrics["val_loss"])
    seconds = round(time.monotonic() - started, 1)
    row: Row = {"epoch": epoch + 1, "seconds": seconds, "learning_rate": rate} | losses | metrics
    learner.rows.append(row)
    if rank() == 0:
        print(
            f"epoch {epoch + 1}: loss {row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, "
            f"validation mIoU {row['val_miou']:.4f}, {seconds:.0f} s",
            file=sys.stderr,
        )
    return metrics


def train_epoch(learner: Learner, loader: Iterable[Batch], config: Config) -> Row:
    """One pass over the loader in steps of some batches; the mean losses over the pixels of all ranks.

    Whether a step drops the satellite branch follows from (seed, epoch, step) and is the same on all ranks.
    """
    weights, accumulation = class_weights(config), batches_per_step(config)
    draws = np.random.default_rng((config.seed, len(learner.rows), 0, 1))
    learner.model.train()
    losses, totals = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    title = f"epoch {len(learner.rows) + 1}/{config.epochs}"
    hidden = None if rank() == 0 else True  # None: shown on terminals only
    with tqdm(loader, desc=title, unit="batch", dynamic_ncols=True, leave=False, disable=hidden) as progress:
        batches = iter(progress)
        while step := list(islice(batches, accumulation)):
            drop = bool(draws.random() < config.modality_dropout)
            step_losses, step_totals = take_step(learner, step, weights, config.precision, drop)
            loss = float((step_losses / step_totals.clamp(min=1)).sum())
            require_finite(loss, f"{title}: the loss")
            losses += step_losses
            totals += step_totals
            progress.set_postfix(loss=f"{loss:.3f}")
    aerial, satellite = (losses / totals.clamp(min=1)).tolist()
    return {
        "train_loss": aerial + satellite,
        "train_loss_aerial": aerial,
        "train_loss_satellite": satellite,
    }


def take_step(
    learner: Learner,
    batches: Sequence[Batch],
    weights: Tensor,
    precision: str = "fp32",
    drop_satellite: bool = False,
) -> tuple[Tensor, Tensor]:
    """One optimizer step on the loss of all `batches` of all ranks together, as if they were one.

    With `drop_satellite` only the U-Net is used and learns, as in the paper's modality dropout (in IGN's code
    the satellite branch still learns from its own scores).
    Returns what the loss is made of, float64 (2,): the sums of both branches and the weights to divide by.
    """
    device = learner.device
    if drop_satellite:
        weights = weights * torch.tensor([[1.0], [0.0]])  # every parameter keeps a gradient, then of 0
    totals = sum_over_ranks(torch.stack([sum_weights(batch.labels, weights) for batch in batches]).sum(0))
    divisors, weights = totals.clamp(min=1).float().to(device), weights.to(device)
    sums = torch.zeros(2, device=device)
    learner.optimizer.zero_grad()
    for place, batch in enumerate(batches, 1):
        inputs, labels = batch.to(device)
        with nullcontext() if place == len(batches) else learner.gradients_stay():
            with autocast(device, precision):
                scores, satellite_scores = learner.network(*inputs, drop_satellite=drop_satellite)
            losses = sum_losses(scores, satellite_scores, labels, weights)
            loss = (losses / divisors).sum() * world_size()  # for the mean of the gradients to be their sum
            loss.backward()
        sums += losses.detach()
    learner.optimizer.step()
    if isinstance(learner.scheduler, OneCycleLR):
        learner.scheduler.step()
    return sum_over_ranks(sums.cpu().double()), totals


def require_finite(loss: float, name: str) -> None:
    """UsageError for a loss that is NaN or infinite: nothing good can follow from its weights."""
    if not math.isfinite(loss):
        raise UsageError(
            f"{name} is no longer finite, and nothing of this epoch is saved; begin another run with a lower "
            "learning_rate"
        )
