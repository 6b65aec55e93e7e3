"""Time to load training patches: our loader alone, or with --flair2 beside the official one.

Images and annotations are stored twice, without compression and with LZW, since the codec of the published
files is not known. The first comparison is without augmentation and without workers. There our loader also
converts to float32, as the official code does; in training ours leaves that to the device. Both must give
equal values, bit for bit, but for the scale of reflectances, which the official code does not apply. Without
workers, our loader decodes the image on another core while it reads the rest. The second comparison is with
augmentation and two workers: each loader does what it does in training. The allocator keeps freed memory for
both. The toy set's series are made as long as the published ones.

How long decoding the image and the annotation takes alone, one after the other, says what is left to gain.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch.utils.data import DataLoader

from common.record import append_record
from flair_baseline.config import load_config
from flair_baseline.machines.machine import keep_freed_memory
from flair_baseline.model.sentinel import REFLECTANCE_ONE
from flair_baseline.samples.loader import PatchDataset, Sample, make_loader
from flair_ingestion.dataset import Patch, index_patches, read_dates, read_image, read_labels
from flair_scoring.base.errors import UsageError, run_command
from flair_toy.dataset import make_toy_dataset

ROUNDS = 5
BATCH, WORKERS = 10, 2
EPOCH = 500  # patches, at least, that the workers load in a run, some of them again and again
DATES = (20, 90)  # of the toy series, evenly: published are 20 to 100, 55 on average (datapaper, Table II)
GRID = rasterio.Affine(0.2, 0, 0, 0, -0.2, 0)
PACKAGES = ("torch", "numpy", "imagecodecs", "rasterio")
OFFICIAL = {  # flair-2-config.yml
    **{"aerial_metadata": False, "filter_clouds": True, "average_month": True, "num_classes": 13},
    **{"ref_year": 2021, "ref_date": "05-15", "sat_patch_size": 40},
}


def main() -> None:
    """Measure with both codecs; print, and append one line to the record for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with a data set (default: a tiny toy set is made)")
    parser.add_argument("--patches", type=int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--flair2", type=Path, metavar="PATH", help="a checkout of github.com/IGNF/FLAIR-2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder, "toy")
        if args.data is None:
            make_toy_dataset(data, "tiny", seed=2022)
        patches = index_patches(data, "train", labels=True)
        if args.data is None:
            patches = lengthen_series(patches, Path(folder, "series"))
        patches = [patch for patch in patches if not on_leap_day(patch)]
        patches = patches[:: max(1, len(patches) // args.patches)][: args.patches]
        dates = [len(read_dates(patch.super_area.products)) for patch in patches]
        title = f"{len(patches)} patches, {min(dates)} to {max(dates)} dates, median of {ROUNDS}"
        for codec in ("none", "lzw"):
            stored = store(patches, Path(folder, codec), codec)
            figures = [f"{title}, codec {codec}", *measure(stored, args.flair2)]
            append_record(" ".join(["python benchmarks/loading.py", *sys.argv[1:]]), figures, PACKAGES)


def lengthen_series(patches: Sequence[Patch], folder: Path) -> list[Patch]:
    """The patches with DATES[0] to DATES[1] dates, spread over 2021; an area's images come several times."""
    folder.mkdir()
    areas = list(dict.fromkeys(patch.super_area for patch in patches))
    longer = {}
    for area, count in zip(areas, np.linspace(*DATES, len(areas)).astype(int), strict=True):
        name = f"{area.domain}_{area.area}"
        data, masks, products = (
            str(folder / f"{name}_{kind}") for kind in ("data.npy", "masks.npy", "products.txt")
        )
        for old, new in ((area.data, data), (area.masks, masks)):
            series = np.load(old)
            np.save(new, series[np.arange(count) * len(series) // count])
        days = np.datetime64("2021-01-01") + np.linspace(0, 364, count).astype(int)
        names = [f"S2A_MSIL2A_{day:%Y%m%d}T105021_N0300_R051_T31TCJ" for day in days.tolist()]
        Path(products).write_text("\n".join(names) + "\n", encoding="utf-8")
        longer[area] = replace(area, data=data, masks=masks, products=products)
    return [replace(patch, super_area=longer[patch.super_area]) for patch in patches]


def on_leap_day(patch: Patch) -> bool:
    """Whether a series has a 29 February, which the official code moves to 2021 and fails on."""
    days = read_dates(patch.super_area.products).astype("datetime64[D]").astype(str)
    return any(day.endswith("-02-29") for day in days)


def store(patches: Sequence[Patch], folder: Path, codec: str) -> list[Patch]:
    """The patches with their rasters written again, pixel-interleaved as the published ones."""
    folder.mkdir()
    stored = []
    for patch in patches:
        image, labels = (folder / f"{kind}_{patch.id}.tif" for kind in ("IMG", "MSK"))
        for path, pixels in ((image, read_image(patch)), (labels, read_labels(patch)[None])):
            shape = dict(zip(("count", "height", "width"), pixels.shape, strict=True))
            options = {"compress": codec, "interleave": "pixel", "dtype": "uint8", "transform": GRID}
            with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
                file.write(pixels)
        stored.append(replace(patch, image=str(image), labels=str(labels)))
    return stored


def measure(patches: Sequence[Patch], flair2: Path | None) -> list[str]:
    """Figures of single samples, and of batches with augmentation; UsageError if outputs differ."""
    config = load_config("utt_best", ["cloud_rule=official", f"batch_size={BATCH}", "augmentation=false"])
    ours = PatchDataset(patches, config)

    def load(index: int) -> Sample:
        sample = ours[index]
        return sample._replace(aerial=sample.aerial.float().div_(255))

    def decode(patch: Patch) -> None:
        read_image(patch)
        read_labels(patch)

    contestants: dict[str, Callable[[], object]] = {"ours": lambda: drain(map(load, range(len(patches))))}
    several = list(patches) * -(-EPOCH // len(patches))
    training = replace(config, augmentation=True, workers=WORKERS)
    batches: dict[str, Callable[[], object]] = {"ours": lambda: drain(make_loader(several, training, 0))}
    if flair2 is not None:
        official = make_official(flair2, patches, None)
        for index in range(len(patches)):
            check_equal(load(index), official[index])
        contestants["official"] = lambda: drain(official[i] for i in range(len(patches)))
        batches["official"] = lambda: drain(make_official_loader(flair2, several))
    contestants["decoding alone"] = lambda: drain(map(decode, patches))
    return [
        *compare(contestants, len(patches), "a sample"),
        *(["outputs equal"] if flair2 is not None else []),
        *compare(batches, len(several), f"a sample with augmentation and {WORKERS} workers"),
    ]


def drain(samples: Iterable[object]) -> None:
    """Load all samples and keep none, as training does."""
    deque(samples, maxlen=0)


def compare(contestants: dict[str, Callable[[], object]], count: int, what: str) -> list[str]:
    """Median milliseconds, and the median over the rounds of the ratio to ours."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for load in contestants.values():
        load()  # files into the page cache
    for _ in range(ROUNDS):
        for name, load in contestants.items():
            start = time.perf_counter()
            load()
            seconds[name].append(time.perf_counter() - start)
    figures = [f"{name} {1000 * statistics.median(s) / count:.2f} ms {what}" for name, s in seconds.items()]
    for name in list(seconds)[1:]:
        ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name], strict=True))
        figures.append(f"ours {ratio:.2f}x the speed of {name}")
    return figures


def make_official(flair2: Path, patches: Sequence[Patch], augmentation: Any) -> Any:
    """The official Fit_Dataset on the same files; UsageError if it cannot be imported."""
    try:
        import albumentations  # noqa: F401  # is needed later; an error now is better

        Fit_Dataset = import_official(flair2, "dataset").Fit_Dataset
    except ImportError as error:
        raise UsageError(
            f"--flair2 {flair2}: {error}; give a checkout of github.com/IGNF/FLAIR-2 and install what it "
            "needs: pandas, scikit-image, albumentations"
        ) from error
    files = {
        "PATH_IMG": [patch.image for patch in patches],
        "PATH_LABELS": [patch.labels for patch in patches],
        "PATH_SP_DATA": [patch.super_area.data for patch in patches],
        "PATH_SP_MASKS": [patch.super_area.masks for patch in patches],
        "PATH_SP_DATES": [patch.super_area.products for patch in patches],
        "SP_COORDS": [list(patch.centroid or ()) for patch in patches],
    }
    return Fit_Dataset(files, OFFICIAL, augmentation)


def make_official_loader(flair2: Path, patches: Sequence[Patch]) -> DataLoader:
    """The training loader of the official DataModule with the augmentation of its main.py."""
    import albumentations as A

    turns = A.Compose([A.VerticalFlip(p=0.5), A.HorizontalFlip(p=0.5), A.RandomRotate90(p=0.5)])
    return DataLoader(
        make_official(flair2, patches, turns),
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        collate_fn=import_official(flair2, "utils_dataset").pad_collate_train,
    )


def import_official(flair2: Path, name: str) -> Any:
    """Import a module of src/ in the checkout."""
    import importlib

    if str(flair2) not in sys.path:
        sys.path.insert(0, str(flair2))
    return importlib.import_module(f"src.{name}")


def check_equal(ours: Sample, official: dict[str, torch.Tensor]) -> None:
    """UsageError unless the pixels are equal, bit for bit. Dates are not compared: ours differ by design."""
    scaled = torch.from_numpy(official["spatch"].numpy() / np.float32(REFLECTANCE_ONE))
    pairs = {
        "aerial": (ours.aerial, official["patch"]),
        "labels": (ours.labels.float(), official["labels"]),
        "series": (ours.series, scaled),
    }
    for name, (mine, theirs) in pairs.items():
        if mine is None or not torch.equal(mine, theirs):
            raise UsageError(f"ours and the official {name} differ")


if __name__ == "__main__":
    run_command(main)
