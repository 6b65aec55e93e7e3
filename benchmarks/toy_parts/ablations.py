"""What the options of training change on the toy data set: mIoU on the test domains, paired by seed.

Every variant is the configuration demo with one change, at a quarter of the resolution (aerial_pooling=4), so
that all runs take about an hour. A difference is that between runs with the same seed, and its interval is a
95 % t interval over the seeds. The toy data are easy and the runs are short, so a difference here says
whether an option works, and little about its worth on the real data. Two runs at a time train on one core
each.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

from common.record import KIT, cores
from flair_baseline.config import load_config
from flair_baseline.table_iv import run_row

PROGRAM = KIT / "benchmarks/toy_learning.py"
FIRST_SEED = 2022
PLAIN = "plain"
COMMON = ("aerial_pooling=4", "workers=0")
# Name -> changes of the configuration demo
VARIANTS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "loss with dice": ("loss={cross_entropy: 1, dice: 1}",),
    "label smoothing 0.1": ("label_smoothing=0.1",),
    "balanced class weights": ("class_weights=balanced",),
    "rare classes 0.5": ("rare_classes=0.5",),
    "ema 0.95": ("ema=0.95",),
    "cosine": ("schedule=cosine", "warmup_steps=20"),
    "no augmentation": ("augmentation=false",),
    "photometric 0.5": ("photometric=0.5",),
    "fpn": ("decoder=fpn",),
    "upernet on ConvNeXt": ("decoder=upernet", "encoder=tu-convnext_atto"),
    "segformer on MiT": ("decoder=segformer", "encoder=mit_b0"),
}


def run_here(name: str, seed: int, data: Path, folder: Path) -> None:
    """Train and test one variant in this process, and print its mIoU; a finished run is read."""
    config = load_config("demo", [*COMMON, *VARIANTS[name], f"seed={seed}"])
    print(run_row(config, data, folder).scores["miou"])


def run_apart(name: str, seed: int, data: Path, folder: Path) -> float:
    """The same in a process of its own with one core."""
    options = ["--one", name, str(seed), str(data), str(folder / name.replace(" ", "_") / str(seed))]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    print(f"{name}, seed {seed}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    return float(done.stdout)


def describe(mious: Mapping[str, Sequence[float]]) -> list[str]:
    """The mean of each variant, and the interval of its paired difference from the plain one."""
    plain = np.array(mious[PLAIN])
    figures = [f"{PLAIN} {plain.mean():.4f} ±{plain.std(ddof=1):.4f}"]
    for name, values in mious.items():
        if name == PLAIN:
            continue
        gains = np.array(values) - plain
        half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / math.sqrt(len(gains))
        figures.append(
            f"{name} {np.mean(values):.4f}, difference {gains.mean():+.4f} "
            f"({gains.mean() - half:+.4f} to {gains.mean() + half:+.4f})"
        )
    return figures


def compare_options(data: Path, folder: Path, seeds: int) -> list[str]:
    """The figures of all variants, from runs in `folder`; finished ones are kept."""
    runs = [(name, FIRST_SEED + seed) for seed in range(seeds) for name in VARIANTS]
    with ThreadPoolExecutor(min(cores(), 2)) as pool:
        found = list(pool.map(lambda run: run_apart(run[0], run[1], data, folder), runs))
    scores = zip(runs, found, strict=True)
    mious: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for (name, _), miou in scores:
        mious[name].append(miou)
    return describe(mious)
