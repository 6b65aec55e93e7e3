"""Read a whole data set, say what is in it, and list everything that is wrong with it.

The Hugging Face hub has one archive per domain. --lay-out unpacks such a download as the kit reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from flair_ingestion.dataset import (
    KINDS,
    SPLITS,
    Nodata,
    Patch,
    check_patches,
    describe_gaps,
    find_roots,
    lay_out,
    read_dates,
    read_labels,
    require_data,
    scan_split,
)
from flair_scoring.base.errors import DataError, list_problems, run_command
from flair_scoring.nomenclature import FLAIR_12, MAX_FLAIR_VALUE

if TYPE_CHECKING:
    import pandas as pd


def scan(data: Path) -> tuple[dict[str, list[Patch]], list[str]]:
    """The usable patches of every split that is there, and all problems. The labels of test may be absent."""
    require_data(data)
    splits: dict[str, list[Patch]] = {}
    problems: list[str] = []
    for split in SPLITS:
        if any(find_roots(data, kind, split) for kind in KINDS):
            labels = split != "test" or bool(find_roots(data, "labels", split))
            splits[split], found = scan_split(data, split, labels)
            problems += found
    problems += find_shared_ids(splits)
    return splits, list(dict.fromkeys(problems))  # each split tells the problems of the json files


def find_shared_ids(splits: dict[str, list[Patch]]) -> list[str]:
    """Problems: patches of different splits that have the same id."""
    first: dict[str, str] = {}
    patches = [patch for part in splits.values() for patch in part]
    repeated = [patch for patch in patches if first.setdefault(patch.id, patch.image) != patch.image]
    return [f"{patch.image}: the id {patch.id} is taken by {first[patch.id]}" for patch in repeated]


def summarise(splits: dict[str, list[Patch]]) -> pd.DataFrame:
    """Domains, areas, patches, and Sentinel-2 dates per area: a row for each split."""
    import pandas as pd

    rows = []
    for patches in splits.values():
        areas = {patch.super_area for patch in patches}
        dates = [len(read_dates(area.products)) for area in areas] or [0]
        rows.append(
            {
                "domains": len({patch.domain for patch in patches}),
                "areas": len(areas),
                "patches": len(patches),
                "dates per area: min": min(dates),
                "mean": float(np.mean(dates)),
                "max": max(dates),
            }
        )
    return pd.DataFrame(rows, index=list(splits)).rename_axis(columns="split")


def count_values(patches: Sequence[Patch], split: str) -> np.ndarray:
    """Pixels of each FLAIR value 0..19 in the labels, int64 (20,)."""
    total = np.zeros(MAX_FLAIR_VALUE + 1, np.int64)
    with ThreadPool() as pool:
        counts = pool.imap_unordered(_count_patch, patches, chunksize=16)
        for count in tqdm(counts, f"labels of {split}", len(patches), unit="patch", dynamic_ncols=True):
            total += count
    return total


def _count_patch(patch: Patch) -> np.ndarray:
    return np.bincount(read_labels(patch).ravel(), minlength=MAX_FLAIR_VALUE + 1)


def class_shares(counts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Share of each class in the labelled pixels, in %: a row for each class, a column for each split."""
    import pandas as pd

    classes = FLAIR_12.classes_with_other
    shares = {
        split: [100 * count[FLAIR_12.index_of == index].sum() / count.sum() for index in range(len(classes))]
        for split, count in counts.items()
    }
    return pd.DataFrame(shares, index=list(classes)).rename_axis(columns="class, % of pixels")


def nodata_shares(counts: dict[str, Nodata]) -> pd.DataFrame:
    """Shares of pixels and dates without data, in %: a column for each split."""
    import pandas as pd

    shares = {
        split: {
            "pixels of the images": _percentage(count.image_empty, count.image_pixels),
            "pixels of the series": _percentage(count.series_empty, count.series_pixels),
            "dates with some pixels without data": _percentage(count.dates_empty, count.dates),
        }
        for split, count in counts.items()
    }
    return pd.DataFrame(shares).rename_axis(columns="without data, %")


def _percentage(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _format(table: pd.DataFrame, digits: int) -> str:
    return table.to_string(float_format=f"{{:.{digits}f}}".format, col_space=7)


def main() -> None:
    """Print what is in the data set, and what it lacks; raises DataError that lists all problems."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/check_dataset.py /data/flair2",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the FLAIR #2 archives, unpacked")
    parser.add_argument(
        "--lay-out",
        type=Path,
        metavar="OUT",
        help="do not check: unpack the hub's archives of domains in DATA into OUT, as the kit reads them",
    )
    args = parser.parse_args()
    data = args.data
    if args.lay_out:
        print(f"{args.lay_out}: {lay_out(data, args.lay_out)} files and both json files are there")
        return

    splits, problems = scan(data)
    print(_format(summarise(splits), digits=1))
    print("(FLAIR #2 as published: 61712 patches in train and val, 16050 in test)", flush=True)
    nodata = {split: Nodata() for split in splits}
    for split, part in splits.items():
        problems += check_patches(part, labels=True, decode=True, progress=True, nodata=nodata[split])
    if problems:
        raise DataError(list_problems(f"{data}: the data set is incomplete or damaged", problems))
    print("\n" + _format(nodata_shares(nodata), digits=2))
    counts = {split: count_values(part, split) for split, part in splits.items() if part[0].labels}
    if counts:
        print("\n" + _format(class_shares(counts), digits=2))
    for split, count in counts.items():
        if count[0]:
            print(f"{split}: {count[0]} pixels are 0 and count as other")
    gaps = describe_gaps(data, {split: splits.get(split, []) for split in SPLITS})
    print("", *(f"note: {gap}" for gap in gaps), sep="\n")
    print("no problems in what is here" if gaps else "no problems")


if __name__ == "__main__":
    run_command(main)
