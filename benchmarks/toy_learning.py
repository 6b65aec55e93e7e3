"""Whether the toy data set is worth learning: rows of Table IV with the toy recipe, and their differences.

U-T&T, which reads the satellite series, must be far better than the U-Net, which sees the aerial image alone.
With the dates of the series in random order it must lose most of that gain. The satellite head alone must
stay below the U-Net. Without the paper's cloud filter and monthly means U-T&T must lose. Differences are
between runs with the same seed.

With `options` it measures instead what the options of training change (toy_parts/ablations.py).
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from common.record import KIT, append_record
from toy_parts.ablations import compare_options, run_here

ROWS = ("unet", "utt_best", "satellite_only", "no_filter", "dates_permuted")


def run_rows(data: Path, output: Path, seeds: int) -> None:
    """Run table4.py, which keeps what is finished in `output`."""
    command = ["starting_kit/table4.py", str(data), "--recipe", "toy", "--rows", *ROWS, "--seeds", str(seeds)]
    subprocess.run([sys.executable, *command, "--output", str(output)], check=True, cwd=KIT)


def read_mious(path: Path) -> dict[str, np.ndarray]:
    """mIoU of each row, float64 (seeds,), from table4.csv."""
    mious: dict[str, list[float]] = defaultdict(list)
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            mious[line["row"]].append(float(line["miou"]))
    return {row: np.array(values) for row, values in mious.items()}


def describe(mious: dict[str, np.ndarray]) -> list[str]:
    """Means and deviations of the rows, then the differences."""
    figures = [f"{row} {values.mean():.4f} ±{values.std(ddof=1):.4f}" for row, values in mious.items()]
    unet, utt, satellite, unfiltered, permuted = (mious[row] for row in ROWS)
    gain, cost = utt - unet, utt - unfiltered
    return [
        *figures,
        f"series and dates gain {gain.mean():.4f} (each seed: {', '.join(f'{one:.4f}' for one in gain)})",
        f"permuted dates lose {(utt - permuted).mean() / gain.mean():.0%} of it",
        f"the satellite head alone is {(unet - satellite).mean():.4f} below the U-Net",
        f"no filter and no monthly means cost {cost.mean():.4f} ({', '.join(f'{one:.4f}' for one in cost)})",
    ]


def main() -> None:
    """Draw the data, run, print, append one line to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="K", help="runs per row (default: %(default)s)"
    )
    parser.add_argument("what", nargs="?", choices=("rows", "options"), default="rows")
    parser.add_argument("--folder", type=Path, help="keep data and runs there, to go on if interrupted")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # a run of the options, apart
    args = parser.parse_args()
    if args.one:
        name, seed, place, run = args.one
        run_here(name, int(seed), Path(place), Path(run))
        return
    if args.seeds < 2:
        parser.error(f"--seeds {args.seeds}: expected 2 or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        data = folder / "toy"
        if not data.exists():
            drawing = ["starting_kit/make_toy_dataset.py", str(data), "--size", "demo", "--seed", "2022"]
            subprocess.run([sys.executable, *drawing], check=True, cwd=KIT, stdout=subprocess.DEVNULL)
        if args.what == "options":
            figures = compare_options(data, folder / "options", args.seeds)
        else:
            run_rows(data, folder / "table4", args.seeds)
            figures = describe(read_mious(folder / "table4" / "table4.csv"))
    command = f"python benchmarks/toy_learning.py {args.what} --seeds {args.seeds}"
    append_record(command, figures, ("torch", "numpy"))


if __name__ == "__main__":
    main()
