"""Time of a training step of U-T&T on a batch in memory: forward, loss, backward, SGD; in several precisions.

The precisions are float32 and bfloat16. On a GPU they are also TF32, torch's default for the convolutions of
float32, and float32 with deterministic algorithms only.

With --flair2 the official model takes the same step beside ours, without its training metric, since ours
computes none. First both models compute the loss and the gradients of one patch, with equal weights, frozen
batch norms and no dropout: these must agree. The allocator keeps freed memory in all cases.

The share of the roofline (common/roofline.py) says how much of the time the convolutions and matrix products
of our float32 step, forward and backward, would take at the best speed that this machine has shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.official import load_official
from common.record import append_record
from common.roofline import ideal_seconds, list_layers, measure_peaks
from flair_baseline.config import load_config
from flair_baseline.machines.machine import choose_device, keep_freed_memory
from flair_baseline.model.inference import computes_in_bfloat16
from flair_baseline.model.sentinel import pad_series
from flair_baseline.model.utt import OFFICIAL_DAY
from flair_baseline.official import convert
from flair_baseline.samples.loader import Batch
from flair_baseline.training.learner import make_learner
from flair_baseline.training.loop import take_step
from flair_baseline.training.losses import class_weights, sum_losses, sum_weights
from flair_scoring.base.errors import UsageError, run_command

ROUNDS = 5
TOLERANCE = 1e-3  # of loss and gradients, relative; float32 on both sides


@dataclass(frozen=True)
class Way:
    """How a step is computed: `precision` as in configurations, TF32 or not, deterministic or not."""

    precision: str = "fp32"
    tf32: bool = False
    deterministic: bool = False


def main() -> None:
    """Measure, print, append one line to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4, metavar="B", help="patches (default: %(default)s)")
    parser.add_argument("--dates", type=int, default=12, metavar="T", help="of each (default: %(default)s)")
    parser.add_argument("--flair2", type=Path, metavar="PATH", help="a checkout of github.com/IGNF/FLAIR-2")
    parser.add_argument("--roofline", action="store_true", help="also the share of the roofline")
    args = parser.parse_args()
    keep_freed_memory()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic algorithms want it before CUDA starts
    device = choose_device("auto")
    batch = draw_batch(args.batch, args.dates)
    figures = [f"{args.batch} patches, {args.dates} dates, median of {ROUNDS}"]
    steps: dict[str, Callable[[], object]] = {}
    if args.flair2 is not None:
        official, settings = load_official(args.flair2)
        figures.append(compare_gradients(official, settings, args.flair2))
        steps["official"] = official_step(official, settings, batch, device)
    for name, way in choose_ways(device).items():
        steps[f"ours {name}"] = our_step(batch, way, device)
    seconds = time_steps(steps, device)
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[next(iter(steps))], times, strict=True))
        against = f" ({ratio:.2f}x)" if name != next(iter(steps)) else ""
        figures.append(f"{name} {1000 * statistics.median(times) / args.batch:.1f} ms a patch{against}")
    if args.roofline:
        figures.append(describe_share(steps["ours fp32"], statistics.median(seconds["ours fp32"]), device))
    figures.append(torch.cuda.get_device_name() if device.type == "cuda" else "on the CPU")
    append_record(" ".join(["python benchmarks/training_step.py", *sys.argv[1:]]), figures, ("torch",))


def draw_batch(patches: int, dates: int) -> Batch:
    """Patches of made-up content with so many dates each, collated as train.py does."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 13, (patches, 32, 32), dtype=torch.uint8, generator=generator)
    aerial = torch.randint(0, 256, (patches, 5, 512, 512), dtype=torch.uint8, generator=generator)
    days = torch.randint(0, 365, (patches, dates), generator=generator).sort().values.float()
    series = torch.rand(patches, dates, 10, 40, 40, generator=generator)
    labels = cells.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return Batch((aerial, *pad_series(list(series), list(days))), labels)


def choose_ways(device: torch.device) -> dict[str, Way]:
    """The ways in which this device can compute a step."""
    gpu = device.type == "cuda"
    ways = {"fp32": Way()}
    ways |= {"tf32": Way(tf32=True)} if gpu and torch.cuda.get_device_capability(device) >= (8, 0) else {}
    ways |= {"bf16": Way(precision="bf16")} if computes_in_bfloat16(device) else {}
    return ways | ({"fp32 deterministic": Way(deterministic=True)} if gpu else {})


def our_step(batch: Batch, way: Way, device: torch.device) -> Callable[[], object]:
    """The step of train.py, computed in this way."""
    size = len(batch.labels)
    options = ["encoder_weights=null", f"batch_size={size}", f"effective_batch_size={size}"]
    config = load_config("utt_best", options)
    learner, weights = make_learner(config, device, steps_per_epoch=1), class_weights(config)
    learner.model.train()

    def step() -> None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = way.tf32
        torch.use_deterministic_algorithms(way.deterministic)
        try:
            take_step(learner, [batch], weights, way.precision)
        finally:
            torch.use_deterministic_algorithms(False)

    return step


def official_step(
    model: nn.Module, settings: dict[str, Any], batch: Batch, device: torch.device
) -> Callable[[], object]:
    """The training step of the official task_module.py, with main.py's losses and optimizer."""
    model.train().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"])

    def step() -> float:
        loss = official_loss(model, settings, batch, device)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def official_loss(model: nn.Module, settings: dict[str, Any], batch: Batch, device: torch.device) -> Tensor:
    """Weighted cross-entropies of both heads, summed; inputs are made as by the official data set."""
    (aerial, series, days, _), labels = batch
    assert aerial is not None
    assert series is not None
    assert days is not None
    inputs = (aerial / 255, series * 10_000, OFFICIAL_DAY - days)
    logits = model(settings, *(tensor.to(device) for tensor in inputs), [])
    pairs = settings["weights_aerial_satellite"].values()
    losses: list[Tensor] = [
        F.cross_entropy(branch, labels.long().to(device), torch.tensor(weights).float().to(device))
        for branch, weights in zip(
            logits, ([pair[1] for pair in pairs], [pair[0] for pair in pairs]), strict=True
        )
    ]
    return sum(losses, torch.zeros((), device=device))


def compare_gradients(official: Any, settings: dict[str, Any], source: Path) -> str:
    """Compare loss and U-Net gradients of both models on one patch; the official fusion mixes larger batches.

    Raises UsageError if they differ.
    """
    config = load_config("utt_best", ["official_layers=true", "metadata_stages=deepest"])
    ours = convert(official.state_dict(), config, source)
    batch, weights = draw_batch(1, 12), class_weights(config)
    aerial, satellite = ours(*batch.inputs)
    loss = (sum_losses(aerial, satellite, batch.labels, weights) / sum_weights(batch.labels, weights)).sum()
    loss.backward()
    expected = official_loss(official.eval(), settings, batch, torch.device("cpu"))
    expected.backward()
    mine: dict[str, Any] = dict(ours.unet.named_parameters())
    theirs = {name: value for name, value in official.arch_vhr.named_parameters() if name in mine}
    gradients = [torch.cat([one[name].grad.flatten() for name in theirs]) for one in (mine, theirs)]
    apart = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    difference = abs(loss.item() / expected.item() - 1)
    if max(apart, difference) > TOLERANCE or len(theirs) != len(mine):
        raise UsageError(f"losses {loss.item()} and {expected.item()}, gradients apart by {apart:.1e}")
    return f"losses apart by {difference:.0e}, gradients of the U-Net by {apart:.0e}"


def time_steps(steps: dict[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, measured in turn, after one round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def describe_share(step: Callable[[], object], seconds: float, device: torch.device) -> str:
    """The share of the roofline that a float32 step reaches: shortest possible time / measured time."""
    layers = list_layers(step)
    peaks = measure_peaks(device, torch.float32)
    work = sum(layer.operations for layer in layers) / 1e9
    return (
        f"ours fp32 {ideal_seconds(layers, peaks) / seconds:.0%} of the roofline ({work:.0f} GFLOP a step; "
        f"at best {peaks.operations / 1e12:.2f} TFLOP/s and {peaks.bytes / 1e9:.0f} GB/s here)"
    )


if __name__ == "__main__":
    run_command(main)
