"""Make a small data set with FLAIR #2's layout, to try the kit, check a submission or train on a laptop.

There are three sizes: tiny for tests, demo for `make demo`, and large, which has as many test patches as
FLAIR #2 (16,050; they share the files of 250).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from flair_scoring.base.errors import UsageError, run_command
from flair_scoring.nomenclature import FLAIR_12
from flair_toy.areas import SIZES
from flair_toy.dataset import make_toy_dataset


def summarise(pixels: dict[str, np.ndarray]) -> str:
    """A table for the terminal: patches and share of each class per split.

    `pixels` are those of each FLAIR value in each split, int64 (20,).
    """
    lines = ["".ljust(24) + "".join(f"{split:>8}" for split in pixels)]
    lines.append("patches".ljust(24) + "".join(f"{count.sum() // 512**2:8d}" for count in pixels.values()))
    for index, name in enumerate(FLAIR_12.classes_with_other):
        shares = [count[FLAIR_12.index_of == index].sum() / count.sum() for count in pixels.values()]
        lines.append(name.ljust(24) + "".join(f"{share:8.1%}" for share in shares))
    return "\n".join(lines)


def main() -> None:
    """Write the data set and print what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/make_toy_dataset.py runs/toy --size tiny",
    )
    parser.add_argument("out", type=Path, help="folder to write; an earlier toy data set there is replaced")
    parser.add_argument("--size", choices=SIZES, default="demo", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=2022, help="0 or more; default: %(default)s")
    options = parser.parse_args()
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}; give 0 or more")
    print(summarise(make_toy_dataset(options.out, options.size, options.seed)))


if __name__ == "__main__":
    run_command(main)
