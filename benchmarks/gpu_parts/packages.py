"""Time of a whole request in a submission of package.py, with each of its switches, against the plain one.

A request comes as the platform hands it over: tensors in the machine's memory, series of several lengths. Its
time goes from there to labels in the machine's memory, as on the clock of the contest. Each switch is
compared with the plain submission in turns. The share of equal labels says what a switch changes. With --run
the network is a trained one. Without, it is drawn, and its logits lie closer to each other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common.record import append_record
from flair_baseline.config import load_config
from flair_baseline.model import inference
from flair_baseline.packaging import pack_checkpoint, pack_untrained, write_submission
from flair_ingestion.shared_memory import synthetic_request
from flair_scoring.base.errors import run_command

LENGTHS = (20, 55, 71, 110)  # of series in FLAIR #2: the shortest, two usual ones, the longest
SWITCHES: dict[str, dict[str, bool]] = {
    "plain": {},
    "staged": {"staged": True},
    "graphs": {"graphs": True},
    "bfloat16": {"bfloat16": True},
    "bfloat16 staged": {"bfloat16": True, "staged": True},
    "bfloat16 graphs": {"bfloat16": True, "graphs": True},
}
REQUESTS = 5  # after one of warm-up for each seed


def main() -> None:
    """Measure, print, append one line to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="B", help="patches at once")
    parser.add_argument("--run", type=Path, help="a trained run; default: a drawn network, utt_best")
    parser.add_argument("--config", default="utt_best", help="of a drawn network (default: %(default)s)")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    figures = [
        f"{name}, ms per patch of whole requests, medians of {REQUESTS} in turns, share of equal labels"
    ]
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "submission")
        config = load_config(args.config, ["encoder_weights=null"])
        files = pack_checkpoint(args.run, 1) if args.run else pack_untrained(config, 1)
        write_submission(packed, files)
        models = {name: make_model(packed, device, switches) for name, switches in SWITCHES.items()}
    figures += [compare(models, size) for size in args.batch]
    command = " ".join(["python benchmarks/gpu_parts/packages.py", *sys.argv[1:]])
    append_record(command, figures, ("torch", "segmentation-models-pytorch"))


def make_model(folder: Path, device: torch.device, switches: dict[str, bool]) -> inference.Model:
    """The submission with these switches on, as its model.py would set them."""
    return type("Switched", (inference.Model,), switches)(folder, device)


def compare(models: dict[str, inference.Model], size: int) -> str:
    """Milliseconds per patch at a batch size, ratios to the plain submission, shares of equal labels."""
    window = models["plain"].superpatch_size
    batches = [draw_batch(size, window, seed) for seed in range(REQUESTS)]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    equal: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        for batch in batches:
            model.predict(batch)  # warm-up: also every length of a series
    for batch in batches:
        expected = models["plain"].predict(batch).cpu()
        for name, model in models.items():
            start = time.perf_counter()
            labels = model.predict(batch).cpu()
            seconds[name].append(time.perf_counter() - start)
            equal[name].append(float((labels == expected).double().mean()))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    parts = [
        f"{name} {1000 * medians[name] / size:.2f} ({medians['plain'] / medians[name]:.2f}x, "
        f"{statistics.fmean(equal[name]):.5f})"
        for name in models
    ]
    return f"B={size}: {', '.join(parts)}"


def draw_batch(size: int, window: int, seed: int) -> dict[str, Any]:
    """A request of random numbers as the platform hands it over."""
    request = synthetic_request(
        [LENGTHS[(seed + index) % len(LENGTHS)] for index in range(size)], window, seed
    )
    series = ("sentinel", "sentinel_masks", "sentinel_dates")
    tensors = {name: [torch.from_numpy(one) for one in getattr(request, name)] for name in series}
    return {"aerial": torch.from_numpy(request.aerial), "metadata": request.metadata, **tensors}


if __name__ == "__main__":
    run_command(main)
