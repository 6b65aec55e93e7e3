"""Read a data set whole, say what is in it, and list everything that is wrong with it.

FLAIR as downloaded from the Hugging Face hub, one archive per domain, is laid out first: --lay-out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

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


def scan(data: Path) -> tuple[dict[str, list[Patch]], list[str]]:
    """The usable patches of every split that is there, and all problems; labels of test may be absent."""
    require_data(data)
    splits: dict[str, list[Patch]] = {}
    problems: list[str] = []
    for split in SPLITS:
        if any(find_roots(data, kind, split) for kind in KINDS):
            labels = split != "test" or bool(find_roots(data, "labels", split))
            splits[split], found = scan_split(data, split, labels)
            problems += found
    problems += find_shared_ids(splits)
    return splits, list(dict.fromkeys(problems))  # all splits share the json files


def find_shared_ids(splits: dict[str, list[Patch]]) -> list[str]:
    """Problems: patches of two splits with one id."""
    first: dict[str, str] = {}
    patches = [patch for part in splits.values() for patch in part]
    repeated = [patch for patch in patches if first.setdefault(patch.id, patch.image) != patch.image]
    return [f"{patch.image}: the id {patch.id} is taken by {first[patch.id]}" for patch in repeated]


def summary(splits: dict[str, list[Patch]]) -> str:
    """Table of the numbers of domains, areas, patches and Sentinel-2 dates in each split."""
    lines = ["split  domains  areas  patches  dates per area: min  mean  max"]
    for split, patches in splits.items():
        areas = {patch.super_area for patch in patches}
        dates = [len(read_dates(area.products)) for area in areas] or [0]
        lines.append(
            f"{split:5}  {len({patch.domain for patch in patches}):7}  {len(areas):5}  {len(patches):7}"
            f"  {min(dates):19}  {np.mean(dates):4.1f}  {max(dates):3}"
        )
    lines.append("(FLAIR #2 as published: 61712 patches in train and val, 16050 in test)")
    return "\n".join(lines)


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


def frequencies(counts: dict[str, np.ndarray]) -> str:
    """Table of the share of each class in the labelled pixels of each split, in %, with notes on value 0."""
    lines = [f"{'class, % of pixels':22}" + "".join(f"{split:>8}" for split in counts)]
    for index, name in enumerate(FLAIR_12.classes_with_other):
        shares = [100 * count[FLAIR_12.index_of == index].sum() / count.sum() for count in counts.values()]
        lines.append(f"{name:22}" + "".join(f"{share:8.2f}" for share in shares))
    zeros = {split: count[0] for split, count in counts.items() if count[0]}
    lines += [f"{split}: {number} pixels are 0 and count as other" for split, number in zeros.items()]
    return "\n".join(lines)


def nodata_shares(counts: dict[str, Nodata]) -> str:
    """Table of the shares of pixels and dates without data in each split, in %."""
    rows = {
        "pixels of the images": [(count.image_empty, count.image_pixels) for count in counts.values()],
        "pixels of the series": [(count.series_empty, count.series_pixels) for count in counts.values()],
        "dates with some pixels without data": [
            (count.dates_empty, count.dates) for count in counts.values()
        ],
    }
    width = max(map(len, rows))
    lines = [f"{'without data, %':{width}}" + "".join(f"{split:>8}" for split in counts)]
    for name, cells in rows.items():
        shares = [100 * empty / total if total else 0.0 for empty, total in cells]
        lines.append(f"{name:{width}}" + "".join(f"{share:8.2f}" for share in shares))
    return "\n".join(lines)


def main() -> None:
    """Print the tables and what is missing of FLAIR #2; problems end in one error that lists them."""
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
        help="do not check: unpack the archives of single domains in DATA into OUT, in the layout of IGN's",
    )
    args = parser.parse_args()
    data = args.data
    if args.lay_out:
        print(f"{args.lay_out}: {lay_out(data, args.lay_out)} files and both json files in place")
        return

    splits, problems = scan(data)
    print(summary(splits), flush=True)
    nodata = {split: Nodata() for split in splits}
    for split, part in splits.items():
        problems += check_patches(part, labels=True, decode=True, progress=True, nodata=nodata[split])
    if problems:
        raise DataError(list_problems(f"{data}: the data set is incomplete or damaged", problems))
    labelled = {split: part for split, part in splits.items() if part[0].labels}
    print("\n" + nodata_shares(nodata))
    print("\n" + frequencies({split: count_values(part, split) for split, part in labelled.items()}))
    gaps = describe_gaps(data, {split: splits.get(split, []) for split in SPLITS})
    print("", *(f"note: {gap}" for gap in gaps), sep="\n")
    print("no problems in what is here" if gaps else "no problems")


if __name__ == "__main__":
    run_command(main)
