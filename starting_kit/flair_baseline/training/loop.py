"""The training loop: epochs of steps, each epoch followed by its validation and its checkpoint.

All random numbers of an epoch follow from (seed, epoch), so a resumed run goes on as if it had never stopped:
bit for bit on the CPU, and on GPUs with deterministic=true.

Under torchrun the ranks share the patches of every step and of the validation. The loss of a step is that of
all its pixels, on whichever rank they are.

The paper's recipe is SGD with a learning rate of 0.001. The rate is lowered when the validation loss has not
fallen for 10 epochs, and the run ends when that loss has not fallen for 30. The kept checkpoint is that of
the epoch with the best validation mIoU, which is the metric of the challenge.
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

from flair_baseline.checkpoint import PROVENANCE, STATE, save_model, save_state
from flair_baseline.config import Config, to_dict
from flair_baseline.encoders import check_network
from flair_baseline.initial.given import Given, Start, read_start
from flair_baseline.initial.start import start_from
from flair_baseline.machines.distributed import (
    average_buffers,
    copy_from_rank_0,
    from_rank_0,
    rank,
    sum_over_ranks,
    world_size,
)
from flair_baseline.machines.machine import autocast, be_deterministic, choose_device
from flair_baseline.model.utt import UTT
from flair_baseline.samples.band_statistics import measure_series, standardise_series
from flair_baseline.samples.batches import batches_per_step, share_step, steps_per_epoch
from flair_baseline.samples.loader import Batch, index_training_patches, make_loader, show_progress
from flair_baseline.samples.rarity import count_once, draw_probabilities
from flair_baseline.training.class_balance import KEYS, balance_classes, measure_weights
from flair_baseline.training.event_files import opened_events
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
from flair_baseline.training.losses import (
    add_terms,
    class_weights,
    count_kinds,
    count_terms,
    sum_terms,
    weigh_terms,
)
from flair_baseline.training.run_folder import claimed, find_state, remove_unfinished
from flair_baseline.training.schedules import LENGTHENED, finish_epoch
from flair_baseline.training.validation import validate
from flair_ingestion.dataset import Patch
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.interrupts import held_signals


def train(config: Config, data: Path, run: Path, resume: bool = False, start: Start | None = None) -> Row:
    """Train on the training domains of DATA into the folder RUN; returns the row of the best epoch.

    RUN gets model.safetensors and model.json (best epoch), last.pt (to resume), log.csv and curves.png;
    where TensorBoard is installed, also event files. With `start` a new run begins with given weights; a run
    that is continued has its own, and `start` is not read.

    UsageError when RUN holds a run and `resume` is not asked for, when that run has another configuration,
    when another process trains there, when `start` does not fit the configuration, and when a loss is not
    finite. DataError when DATA, RUN or `start` is damaged.
    """
    with claimed(run) if rank() == 0 else nullcontext():
        return _train(config, data, run, resume, start)


def _train(config: Config, data: Path, run: Path, resume: bool, start: Start | None) -> Row:
    be_deterministic(config.deterministic)
    device = choose_device(config.device)
    if rank() == 0 and device.type == "cpu" and config.precision == "fp16":
        print("note: most CPUs compute precision=fp16 many times slower than fp32", file=sys.stderr)
    state = from_rank_0(find_state(run, config, resume) if rank() == 0 else None)
    given = read_start(start, config) if start is not None and state is None and rank() == 0 else None
    shared = share_step(config)
    if state is not None or from_rank_0(given is not None and given.has_encoder):
        # pretrained weights would be looked for in vain
        shared = replace(shared, encoder_weights=None)
    # on GPUs batch norm takes the statistics of all ranks together
    check_network(shared, shared.batch_size * (world_size() if device.type == "cuda" else 1))
    training, held_out = index_training_patches(data, config)
    if len(training) < shared.batch_size:  # they are the only batch
        check_network(shared, len(training))
    steps = steps_per_epoch(len(training), shared)
    if config.class_weights == "balanced":
        measured = (state or {}).get("class_weights") or measure_weights(training, shared)
        shared = balance_classes(shared, measured)
    if state is None:
        learner = make_learner(shared, device, steps)
        if learner.model.utae is not None:
            standardise_series(learner.model.utae, *measure_series(training, config))
        origin = take_over(given, learner.model, config) if given is not None else None
        if start is not None:
            copy_from_rank_0(learner.model)
    else:
        learner = make_learner(shared, device, steps)
        restore(learner, state, run)
        tell_other_steps(learner, steps)
        origin = state.get("init_from")
        if start is not None and rank() == 0:
            print(f"{run}: goes on with its own weights; {start.path} is not read", file=sys.stderr)
    if config.rare_classes:
        learner.class_counts = count_once(training, config, learner.class_counts)
    rows = learner.rows
    if rank() == 0:
        beginning = f"continues after epoch {len(rows)} of {config.epochs}" if rows else "a new run begins"
        print(f"{run}: {beginning}", file=sys.stderr)
        if len(rows) < config.epochs and epochs_since_lowest_loss(rows) >= config.stopping_patience:
            print(
                f"note: the run has ended: no lower validation loss since epoch "
                f"{len(rows) - epochs_since_lowest_loss(rows)}; a larger stopping_patience than "
                f"{config.stopping_patience} lets it go on",
                file=sys.stderr,
            )
    with opened_events(run, held_out, shared) as write_events:
        while len(rows) < config.epochs and epochs_since_lowest_loss(rows) < config.stopping_patience:
            metrics = run_epoch(learner, training, held_out, shared)
            write_events(learner.kept_model, rows[-1])
            if rank() == 0:
                save_epoch(run, learner, config, metrics, origin)
    return best_row(rows)


def take_over(given: Given, model: UTT, config: Config) -> dict[str, Any]:
    """Begin with given weights, print what became of them, return that as the run's record."""
    outcome = start_from(given, model, config)
    print(outcome, file=sys.stderr)
    return outcome.record()


def save_epoch(
    run: Path, learner: Learner, config: Config, metrics: Row, origin: dict[str, Any] | None = None
) -> None:
    """Write the files of RUN after an epoch with these validation metrics; signals wait until all are there.

    `origin` is the record of the weights that the run began with, if it was given some. The state is written
    last: when it names an epoch, the other files of that epoch exist. If a file of the first epoch cannot be
    written, none is left: the same command can begin again.
    """
    rows = learner.rows
    weights = {key: list(getattr(learner.config, key)) for key in KEYS}
    recorded: dict[str, Any] = {"class_weights": weights} if config.class_weights == "balanced" else {}
    recorded |= {} if origin is None else {"init_from": origin}
    with held_signals():
        try:
            if best_row(rows) is rows[-1]:
                save_model(run, learner.kept_model, config, len(rows), metrics, recorded)
            write_table(run / TABLE, rows)
            draw_curves(run / CURVES, rows)
            save_state(run, learner.state() | {"config": to_dict(config)} | recorded)
        except BaseException:
            remove_unfinished(run)
            raise


def restore(learner: Learner, state: dict[str, Any], run: Path) -> None:
    """Continue from the state in RUN; DataError when it does not fit the network."""
    try:
        learner.restore(state)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{run / STATE}: does not fit the network of its configuration; continue with the libraries that "
            f"it was begun with ({run / PROVENANCE} names them), or choose another --output"
        ) from error


def tell_other_steps(learner: Learner, steps: int) -> None:
    """Say on stderr if the finished epochs of a resumed run had more or fewer steps than epochs have now."""
    finished, taken = len(learner.rows), learner.scheduler.last_epoch  # plateau counts epochs
    if rank() == 0 and learner.config.schedule != LENGTHENED and taken != finished * steps:
        print(
            f"note: the finished epochs had {taken / finished:g} steps each, and now an epoch has {steps}: "
            "there are other training patches, or another number of ranks; the learning rate goes on from "
            "where it was",
            file=sys.stderr,
        )


def run_epoch(learner: Learner, training: Sequence[Patch], held_out: Sequence[Patch], config: Config) -> Row:
    """Train one epoch and validate; append a row to the learner's rows and return the validation metrics."""
    started, epoch, rate = time.monotonic(), len(learner.rows), learner.learning_rate
    torch.manual_seed(int(np.random.SeedSequence((config.seed, epoch, rank())).generate_state(1)[0]))
    counts = learner.class_counts
    probabilities = None if counts is None else draw_probabilities(counts, config)
    losses = train_epoch(learner, make_loader(training, config, epoch, probabilities), config)
    average_buffers(learner.model)
    if learner.average is not None:
        average_buffers(learner.average)
    metrics = validate(learner.kept_model, held_out, config)
    name = f"epoch {epoch + 1}/{config.epochs}: the validation loss"
    require_finite(metrics["val_loss"], name, config.precision)
    finish_epoch(learner.scheduler, metrics["val_loss"])
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
    """Train on all batches of the loader, in steps; returns the mean losses over the pixels of all ranks.

    Whether a step drops the satellite branch follows from (seed, epoch, step) and is the same on all ranks.
    """
    weights, accumulation = class_weights(config), batches_per_step(config)
    draws = np.random.default_rng((config.seed, len(learner.rows), 0, 1))
    learner.model.train()
    learner.skipped_steps = 0
    losses, totals = torch.zeros(2, count_kinds(config), dtype=torch.float64).unbind()
    title = f"epoch {len(learner.rows) + 1}/{config.epochs}"
    with show_progress(loader, title) as progress:
        batches = iter(progress)
        while step := list(islice(batches, accumulation)):
            drop = bool(draws.random() < config.modality_dropout)
            step_losses, step_totals = take_step(learner, step, weights, config.precision, drop)
            loss = sum(add_terms(config, step_losses, step_totals))
            require_finite(loss, f"{title}: the loss", config.precision)
            require_scale(learner, title)
            losses += step_losses
            totals += step_totals
            progress.set_postfix(loss=f"{loss:.3f}")
    aerial, satellite = add_terms(config, losses, totals)
    row: Row = {
        "train_loss": aerial + satellite,
        "train_loss_aerial": aerial,
        "train_loss_satellite": satellite,
    }
    return row | ({"skipped_steps": learner.skipped_steps} if learner.scaler.is_enabled() else {})


def take_step(
    learner: Learner,
    batches: Sequence[Batch],
    weights: Tensor,
    precision: str = "fp32",
    drop_satellite: bool = False,
) -> tuple[Tensor, Tensor]:
    """One optimizer step on the loss of all `batches` of all ranks together, as if they were one batch.

    With `drop_satellite` only the U-Net is used and learns, as in the paper's modality dropout. (In IGN's
    code the satellite branch still learns from its own logits.)
    Returns the sums of the terms of the loss and what they are divided by, each float64 with one value per
    term: the cross-entropies of the two branches, then the losses of region_losses.py that the learner's
    configuration names. `add_terms` makes the loss of them.
    """
    device, config = learner.device, learner.config
    if drop_satellite:
        weights = weights * torch.tensor([[1.0], [0.0]])  # every parameter keeps a gradient, though it is 0
    counts = torch.stack([count_terms(config, batch.labels, weights) for batch in batches])
    totals = sum_over_ranks(counts.sum(0))
    divisors, weights = totals.clamp(min=1).float().to(device), weights.to(device)
    shares = weigh_terms(config).float().to(device)
    sums = torch.zeros(count_kinds(config), device=device)
    learner.optimizer.zero_grad()
    for number, batch in enumerate(batches, 1):
        inputs, labels = batch.to(device)
        with nullcontext() if number == len(batches) else learner.no_sync():
            with autocast(device, precision):
                logits, satellite_logits = learner.network(*inputs, drop_satellite=drop_satellite)
            losses = sum_terms(config, logits, satellite_logits, labels, weights)
            # DDP takes the mean of the ranks' gradients; the step needs their sum
            loss = (losses / divisors * shares).sum() * world_size()
            learner.scaler.scale(loss).backward()
        sums += losses.detach()
    learner.finish_step()
    return sum_over_ranks(sums.cpu().double()), totals


def require_finite(loss: float, name: str, precision: str) -> None:
    """UsageError for a loss that is NaN or infinite: its weights are useless, or float16 is too small."""
    if not math.isfinite(loss):
        other = ", or with precision=bf16 or fp32" if precision == "fp16" else ""
        raise UsageError(
            f"{name} is no longer finite, and nothing of this epoch is saved; begin another run with a lower "
            f"learning_rate{other}"
        )


def require_scale(learner: Learner, title: str) -> None:
    """UsageError when gradients overflow float16 although the loss is not scaled up any more."""
    if learner.scaler.is_enabled() and learner.scaler.get_scale() < 1:
        raise UsageError(
            f"{title}: gradients overflow precision=fp16 in step after step, and nothing of this epoch is "
            "saved; begin another run with precision=bf16 or fp32"
        )
