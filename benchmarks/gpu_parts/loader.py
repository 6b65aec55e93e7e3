"""How many training patches a second so many processes load and augment: what a GPU can be fed with.

The patches are the toy set's, read again and again from the page cache. The first batches, which start the
processes, are not timed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from common.record import append_record
from flair_baseline.config import load_config
from flair_baseline.samples.loader import make_loader
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import run_command
from flair_toy.dataset import make_toy_dataset

BATCH = 10
FIRST = 2  # batches of each worker before the clock runs; torch loads so many ahead


def main() -> None:
    """Measure, print, append one line to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count() or 1], metavar="N")
    parser.add_argument("--seconds", type=float, default=4, help="for each number (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "toy")
        make_toy_dataset(data, "tiny", seed=2022)
        for workers in args.workers:
            rate = patches_per_second(data, workers, args.seconds)
            figures.append(f"{workers} workers: {rate:.0f} patches/s")
    command = " ".join(["python benchmarks/gpu_parts/loader.py", *sys.argv[1:]])
    append_record(command, figures, ("torch", "imagecodecs"))


def patches_per_second(data: Path, workers: int, seconds: float) -> float:
    """Patches per second that so many processes load in full batches, as for training."""
    config = load_config("utt_best", [f"batch_size={BATCH}", f"workers={workers}"])
    patches = index_patches(data, "train", labels=True)
    loader = iter(make_loader(patches * (100_000 // len(patches)), config, 0))
    for _ in islice(loader, FIRST * workers):
        pass
    begin, loaded = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        loaded += len(next(loader).labels)
    return loaded / (time.perf_counter() - begin)


if __name__ == "__main__":
    run_command(main)
