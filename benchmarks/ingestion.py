"""What the clock costs: the harness alone, beside a bare loop, as wall time, and how far its ratios scatter.

Data: the toy set's images with series of 55 dates, FLAIR #2's mean, in windows of 40 x 40 pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.record import append_record
from flair_ingestion.clock import clock
from flair_ingestion.dataset import index_patches, sample_patches
from flair_ingestion.devices.device import choose_device, exclusive_use, require_idle
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Conditions, series_lengths
from flair_ingestion.reference import open_reference
from flair_scoring.base.errors import run_command
from flair_toy.areas import SIZES, Share, Size
from flair_toy.dataset import make_toy_dataset
from ingestion_parts.bare_loop import compare_with_bare_loop
from ingestion_parts.harness import time_null
from ingestion_parts.reading import compare_readers, compare_wall_time
from ingestion_parts.scatter import scatter_of_models, scatter_of_sleepers
from ingestion_parts.stops import time_stops

DATES, SEED = 55, 2022
PACKAGES = ("torch", "numpy")


def main() -> None:
    """Measure all of it, or what was named, and append each to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("null", "bare", "wall", "readers", "noise", "models", "stops")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--patches", type=int, default=60, help="at most 125 (default: %(default)s)")
    parser.add_argument(
        "--block", type=int, default=10, help="patches at a time for bare and models (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=10, help="runs and blocks (default: %(default)s)")
    parser.add_argument(
        "--stops", type=int, default=2000, help="for each number of threads (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--submission", type=Path, help="for bare, wall and models; default: reference_submission/"
    )
    args = parser.parse_args()
    if unknown := set(args.what) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(names)}")
    device, limits = choose_device(args.device), read_limits().with_options(0, None)
    submission = open_reference(args.submission, limits.submission_mib)
    one = Share(1, 1, 1)
    SIZES["benchmark"] = Size({"train": one, "val": one, "test": Share(5, 1, 25)}, (DATES, DATES))
    with tempfile.TemporaryDirectory() as folder, exclusive_use(device):
        data = Path(folder, "data")
        make_toy_dataset(data, "benchmark", SEED)
        require_idle(device)
        patches = sample_patches(index_patches(data, "test"), args.patches, SEED)
        conditions = Conditions(
            device, limits, clock() + limits.wall_seconds, "none", series_lengths(patches)
        )
        measurements: dict[str, Callable[[], list[str]]] = {
            "null": lambda: time_null(patches, DATES, conditions, args.runs),
            "bare": lambda: compare_with_bare_loop(
                submission, data, patches[: args.block], conditions, args.runs
            ),
            "wall": lambda: compare_wall_time(submission, patches, conditions),
            "readers": lambda: compare_readers(patches, conditions, args.runs),
            "noise": lambda: scatter_of_sleepers(patches, conditions, args.runs),
            "models": lambda: scatter_of_models(submission, patches[: args.block], conditions, args.runs),
            "stops": lambda: [time_stops(threads, args.stops) for threads in (1, 8, 64)],
        }
        for name in args.what or names:
            command = " ".join(["python benchmarks/ingestion.py", name, *sys.argv[1 + len(args.what) :]])
            append_record(command, measurements[name](), PACKAGES)


if __name__ == "__main__":
    run_command(main)
