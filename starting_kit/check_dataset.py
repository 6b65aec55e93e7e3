"""Read a whole data set, say what is in it, and list everything that is wrong with it.

The Hugging Face hub has one archive per domain. --lay-out unpacks such a download as the kit reads it.
--aerial-only is for those who have no Sentinel-2 archives: training with satellite: false needs none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from flair_ingestion.dataset import (
    CENTROIDS,
    KINDS,
    METADATA,
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
    root_names,
    scan_split,
)
from flair_scoring.base.errors import DataError, list_problems, run_command
from flair_scoring.nomenclature import FLAIR_12, MAX_FLAIR_VALUE

if TYPE_CHECKING:
    import pandas as pd


def scan(data: Path, series: bool = True) -> tuple[dict[str, list[Patch]], list[str]]:
    """The usable patches of every split that is there, and all problems. The labels of test may be absent.

    Without `series` the Sentinel-2 archives and both json files may be absent too.
    """
    require_data(data)
    splits: dict[str, list[Patch]] = {}
    problems: list[str] = []
    for split in SPLITS:
        if any(find_roots(data, kind, split) for kind in KINDS):
            labels = split != "test" or bool(find_roots(data, "labels", split))
            described = series or has_metadata(data)
            splits[split], found = scan_split(data, split, labels, series, described)
            problems += found
    problems += find_shared_ids(splits)
    return splits, list(dict.fromkeys(problems))  # each split tells the problems of the json files


def has_metadata(data: Path) -> bool:
    """Whether the json with the metadata of the images is there."""
    return any((data / name).is_file() for name in METADATA)


def find_shared_ids(splits: dict[str, list[Patch]]) -> list[str]:
    """Problems: patches of different splits that have the same id."""
    first: dict[str, str] = {}
    patches = [patch for part in splits.values() for patch in part]
    repeated = [patch for patch in patches if first.setdefault(patch.id, patch.image) != patch.image]
    return [f"{patch.image}: the id {patch.id} is taken by {first[patch.id]}" for patch in repeated]


def summarise(splits: dict[str, list[Patch]]) -> pd.DataFrame:
    """Domains, areas, patches, and, if series were asked for, dates per area: a row for each split."""
    import pandas as pd

    rows = []
    for patches in splits.values():
        areas = {patch.super_area: patch.centroid for patch in patches}
        row: dict[str, float] = {
            "domains": len({patch.domain for patch in patches}),
            "areas": len(areas),
            "patches": len(patches),
        }
        if None not in areas.values():
            dates = [len(read_dates(area.products)) for area in areas] or [0]
            row |= {"dates per area: min": min(dates), "mean": float(np.mean(dates)), "max": max(dates)}
        rows.append(row)
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
            **({} if not count.dates else _series_shares(count)),
        }
        for split, count in counts.items()
    }
    return pd.DataFrame(shares).rename_axis(columns="without data, %")


def _series_shares(count: Nodata) -> dict[str, float]:
    return {
        "pixels of the series": _percentage(count.series_empty, count.series_pixels),
        "dates with some pixels without data": _percentage(count.dates_empty, count.dates),
    }


def explain_aerial_only(data: Path, splits: Iterable[str]) -> list[str]:
    """What these splits suffice for without their series, and what needs the archives that are missing."""
    if not {"train", "val"} <= set(splits):
        told = ["not enough for training, which needs the domains of train and of val"]
    elif has_metadata(data):
        told = ["enough for training on the aerial images alone: satellite: false, as in unet and unet_mtd"]
    else:
        told = [
            "enough for training on the aerial images alone: satellite and metadata: false, as in unet",
            f"note: no {METADATA[0]}, which metadata: true reads",
        ]
    lacking = list(
        dict.fromkeys(root_names("sen", split)[0] for split in splits if lacks_series(data, split))
    )
    lacking += [CENTROIDS[0]] if not any((data / name).is_file() for name in CENTROIDS) else []
    if lacking:
        told.append(
            f"note: no {', no '.join(lacking)}; training with satellite: true reads the series, and "
            "ingest.py and evaluate.py hand them to every submission"
        )
    return told


def lacks_series(data: Path, split: str) -> bool:
    """Whether there is no folder with the Sentinel-2 series of a split."""
    return not find_roots(data, "sen", split)


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
    parser.add_argument(
        "--aerial-only",
        action="store_true",
        help="check without the Sentinel-2 archives what is there for training with satellite: false",
    )
    args = parser.parse_args()
    data = args.data
    if args.lay_out:
        print(f"{args.lay_out}: {lay_out(data, args.lay_out)} files and both json files are there")
        return

    splits, problems = scan(data, series=not args.aerial_only)
    print(_format(summarise(splits), digits=1))
    print("(FLAIR #2 as published: 61712 patches in train and val, 16050 in test)", flush=True)
    nodata = {split: Nodata() for split in splits}
    for split, part in splits.items():
        problems += check_patches(part, labels=True, decode=True, progress=True, nodata=nodata[split])
    if problems:
        told = list_problems(f"{data}: the data set is incomplete or damaged", problems)
        if not args.aerial_only and any(lacks_series(data, split) for split in splits):
            told += "\nTraining with satellite: false needs no Sentinel-2 archive: check with --aerial-only"
        raise DataError(told)
    print("\n" + _format(nodata_shares(nodata), digits=2))
    counts = {split: count_values(part, split) for split, part in splits.items() if part[0].labels}
    if counts:
        print("\n" + _format(class_shares(counts), digits=2))
    for split, count in counts.items():
        if count[0]:
            print(f"{split}: {count[0]} pixels are 0 and count as other")
    gaps = describe_gaps(data, {split: splits.get(split, []) for split in SPLITS})
    print("", *(f"note: {gap}" for gap in gaps), sep="\n")
    if args.aerial_only:
        print(*explain_aerial_only(data, splits), sep="\n")
    print("no problems in what is here" if gaps else "no problems")


if __name__ == "__main__":
    run_command(main)
