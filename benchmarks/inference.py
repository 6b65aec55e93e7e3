"""Time of U-T&T on inputs in memory: the plain network, the folded network that package.py packs, and others.

The others are the folded network in TF32 (on GPUs that have it), in bfloat16, and compiled. With --flair2 the
official model comes first, with the same weights and inputs, and ratios are to its time. The allocator keeps
freed memory in all cases, since page faults would become part of the ratio. The share of the roofline
(common/roofline.py) is that of the folded network in each precision.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.official import load_official
from common.record import append_record
from common.roofline import Peaks, ideal_seconds, list_layers, measure_peaks
from flair_baseline.config import load_config
from flair_baseline.machines.machine import keep_freed_memory
from flair_baseline.model.folding import fold_batch_norm
from flair_baseline.model.inference import compile_unet, computes_in_bfloat16
from flair_baseline.model.utt import OFFICIAL_DAY, UTT, choose_labels
from flair_baseline.official import convert
from flair_scoring.base.errors import run_command

REPEATS = 5
PACKAGES = ("torch", "segmentation-models-pytorch")
Inputs = dict[str, Any]  # arguments of `UTT.forward`, tensors
Runner = Callable[[Inputs], Tensor]


def main() -> None:
    """Measure, print, append one line to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flair2", type=Path, metavar="PATH", help="a checkout of github.com/IGNF/FLAIR-2")
    parser.add_argument("--dates", type=int, nargs="+", default=[12, 55], metavar="T")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="B", help="patches at once")
    parser.add_argument("--compiled", action="store_true", help="also compile the folded network (minutes)")
    parser.add_argument("--roofline", action="store_true", help="also the share of the roofline")
    args = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    allow_tf32(False)
    runners = make_runners(args.flair2, args.compiled, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    figures = [f"{name}, ms per patch, medians of {REPEATS} interleaved runs, share of labels that are equal"]
    peaks = measure_all_peaks(runners, device) if args.roofline else {}
    for name, peak in peaks.items():
        figures.append(
            f"{name}: at best {peak.operations / 1e12:.2f} TFLOP/s and {peak.bytes / 1e9:.0f} GB/s here"
        )
    for dates in args.dates:
        for batch in args.batch:
            inputs = {name: tensor.to(device) for name, tensor in draw_inputs(batch, dates).items()}
            seconds, sentence = compare(runners, inputs, device)
            figures.append(f"T={dates} B={batch}: {sentence}")
            if peaks:
                figures.append(describe_shares(runners, peaks, inputs, seconds))
    append_record(" ".join(["python benchmarks/inference.py", *sys.argv[1:]]), figures, PACKAGES)


def allow_tf32(allowed: bool) -> None:
    """Whether products and convolutions of float32 may be computed in TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def make_runners(flair2: Path | None, compiled: bool, device: torch.device) -> dict[str, Runner]:
    """What is compared: functions from inputs to labels (B, 512, 512). Ratios are to the first one."""
    runners: dict[str, Runner] = {}
    if flair2 is not None:
        official, settings = load_official(flair2)
        randomise_norms(official)
        config = load_config("utt_best", ["official_layers=true", "metadata_stages=deepest"])
        plain = convert(official.state_dict(), config, flair2)
        official.eval().to(device)

        def run_official(inputs: Inputs) -> Tensor:
            days = OFFICIAL_DAY - inputs["days"]
            logits = official(settings, inputs["aerial"] / 255, inputs["series"] * 10_000, days, [])[1]
            return logits.softmax(1).argmax(1)

        runners["official"] = run_official
    else:
        plain = UTT().eval()
        randomise_norms(plain)
    folded = deepcopy(plain)
    fold_batch_norm(folded)
    plain.to(device)
    folded.to(device).to(memory_format=torch.channels_last)
    runners["plain"] = lambda inputs: choose_labels(plain(**inputs)[0], 512)
    runners["folded"] = lambda inputs: choose_labels(folded.classify_aerial(**inputs)[0], 512)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        runners["tf32"] = lambda inputs: run_in_tf32(runners["folded"], inputs)
    networks = {"bf16": folded.classify_aerial} if computes_in_bfloat16(device) else {}
    if compiled:
        both = deepcopy(folded)
        compile_unet(both)
        runners["compiled"] = lambda inputs: choose_labels(both.classify_aerial(**inputs)[0], 512)
        networks |= {f"{name} compiled": both.classify_aerial for name in networks}
    for name, network in networks.items():
        runners[name] = partial(run_in_bfloat16, network)
    return runners


def run_in_tf32(run: Runner, inputs: Inputs) -> Tensor:
    """Labels, computed while TF32 is allowed."""
    allow_tf32(True)
    try:
        return run(inputs)
    finally:
        allow_tf32(False)


def run_in_bfloat16(network: Callable[..., tuple[Tensor, Tensor | None]], inputs: Inputs) -> Tensor:
    """Labels under autocast."""
    with torch.autocast(inputs["aerial"].device.type, torch.bfloat16):
        logits, _ = network(**inputs)
    return choose_labels(logits, 512)


def randomise_norms(model: nn.Module) -> None:
    """Give batch norms statistics as after training, so that folding them changes the network."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)


def draw_inputs(batch: int, dates: int) -> Inputs:
    """Arguments of `UTT.forward`; every patch has all the dates."""
    return {
        "aerial": torch.randint(0, 256, (batch, 5, 512, 512), dtype=torch.uint8),
        "series": torch.rand(batch, dates, 10, 40, 40),
        "days": torch.randint(0, 365, (batch, dates)).sort().values.float(),
    }


@torch.inference_mode()
def compare(runners: dict[str, Runner], inputs: Inputs, device: torch.device) -> tuple[dict[str, float], str]:
    """Median seconds of each runner, and a sentence with ratios to the first and shares of equal labels."""
    labels = {name: run(inputs).cpu() for name, run in runners.items()}  # the warm-up too
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(REPEATS):
        for name, run in runners.items():
            start = time.perf_counter()
            run(inputs)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    first, *others = runners
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    count = len(inputs["aerial"])
    parts = [f"{first} {1000 * medians[first] / count:.2f}"]
    for name in others:
        equal = float((labels[name] == labels[first]).double().mean())
        ratio = medians[first] / medians[name]
        parts.append(f"{name} {1000 * medians[name] / count:.2f} ({ratio:.2f}x, {equal:.5f})")
    best = min(medians, key=lambda name: medians[name])
    parts.append(f"at most {count / medians[best]:.0f} patches/s ({best})")
    return medians, ", ".join(parts)


def measure_all_peaks(runners: dict[str, Runner], device: torch.device) -> dict[str, Peaks]:
    """The device's peaks in the precision of each runner that has one of its own: folded, tf32, bf16."""
    peaks = {"folded": measure_peaks(device, torch.float32)}
    if "tf32" in runners:
        allow_tf32(True)
        peaks["tf32"] = measure_peaks(device, torch.float32)
        allow_tf32(False)
    if "bf16" in runners:
        peaks["bf16"] = measure_peaks(device, torch.bfloat16)
    return peaks


@torch.inference_mode()
def describe_shares(
    runners: dict[str, Runner], peaks: dict[str, Peaks], inputs: Inputs, seconds: dict[str, float]
) -> str:
    """The share of the roofline that each precision reaches: shortest possible time / measured time."""
    shares = []
    for name, peak in peaks.items():
        layers = list_layers(partial(runners[name], inputs))
        ideal = ideal_seconds(layers, peak)
        work = sum(layer.operations for layer in layers) / len(inputs["aerial"]) / 1e9
        shares.append(f"{name} {ideal / seconds[name]:.0%} ({work:.1f} GFLOP a patch)")
    return "share of the roofline: " + ", ".join(shares)


if __name__ == "__main__":
    run_command(main)
