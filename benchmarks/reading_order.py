"""What the order of patches costs when the disk is read: requests in four orders, each from cold files.

Series have FLAIR #2's sizes. A memory cgroup keeps the series of more than 32 areas in the page cache, but
not all of them. Images are not compressed, since decoding takes the same time in every order. All patches
share one image file; with --own-images each patch has its own.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from common.record import append_record
from flair_ingestion.dataset import BANDS, Patch, SuperArea, read_ahead
from flair_ingestion.order import OPEN_AREAS, areas_to_open, draw_order
from flair_ingestion.shared_memory import read_request
from flair_scoring.base.errors import run_command
from flair_toy.areas import PATCH
from flair_toy.sentinel import product_name

SEED, DATES, WINDOW = 2022, 55, 40
BUFFER, PIXEL = 512, 10  # metres
# Patches down and across an area, and how many areas have that shape in FLAIR #1's validation domains
SHAPES = {(5, 5): 22, (5, 10): 30, (5, 15): 5, (10, 10): 93, (10, 15): 16}
GRID = rasterio.Affine(0.2, 0, 0, 0, -0.2, 0)
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Reading:
    """Requests of one patch each: seconds in all, of computing, of reading ahead; bytes from the disk."""

    patches: int
    seconds: float
    busy: float
    ahead: float
    loaded: int

    def describe(self, unit: Reading) -> str:
        """The figures of one order, as a ratio to those of `unit`."""
        each, busy, ahead = (
            1000 * seconds / self.patches for seconds in (self.seconds, self.busy, self.ahead)
        )
        ratio = self.seconds / self.patches / unit.seconds * unit.patches
        text = f"{each:.2f} ms a patch ({ratio:.2f}x), {busy:.2f} of it on the processor"
        text += f", {ahead:.2f} of it reading ahead" if ahead else ""
        return f"{text}, {self.loaded / self.patches / 1e6:.2f} MB of disk"


def make_data(folder: Path, areas: int, own_images: bool) -> list[Patch]:
    """Write areas, each with its own series; return the patches in the order of their files."""
    generator = np.random.default_rng(SEED)
    shared = write_image(folder / "IMG.tif", generator)
    pixels = DATES * max(side(rows) * side(columns) for rows, columns in SHAPES)
    values = generator.integers(0, 10_000, pixels * BANDS, np.uint16)
    probabilities = generator.integers(0, 101, pixels * 2, np.uint8)
    shares = np.array(list(SHAPES.values())) / sum(SHAPES.values())
    patches: list[Patch] = []
    for number, shape in enumerate(generator.choice(list(SHAPES), areas, p=shares).tolist()):
        series = write_series(folder, number, shape, values, probabilities)
        for position in np.ndindex(*shape):
            own = folder / f"IMG_{len(patches):06d}.tif"
            image = shutil.copyfile(shared, own) if own_images else shared
            centroid = tuple(round(BUFFER / PIXEL + 1 + PATCH / PIXEL * (index + 0.5)) for index in position)
            fields = (f"{len(patches):06d}", series.domain, series.area, str(image), None, series)
            patches.append(Patch(*fields, centroid, {}))
    return patches


def write_image(path: Path, generator: np.random.Generator) -> Path:
    """An aerial image of random pixels, stored as they are."""
    profile = {"width": 512, "height": 512, "count": 5, "dtype": "uint8", "interleave": "pixel"}
    with rasterio.open(path, "w", driver="GTiff", transform=GRID, **profile) as file:
        file.write(generator.integers(0, 256, (5, 512, 512), np.uint8))
    return path


def side(patches: int) -> int:
    """Pixels along a super-area with so many patches in a row: 156 for 5, 207 for 10, as published."""
    return int(-(-(patches * PATCH + 2 * BUFFER) // PIXEL)) + 2


def write_series(
    folder: Path, number: int, shape: Sequence[int], values: np.ndarray, probabilities: np.ndarray
) -> SuperArea:
    """The three files of an area, filled from the beginning of `values` and `probabilities`."""
    height, width = map(side, shape)
    stem = str(folder / f"area_{number}")
    for kind, bands, source in (("data", BANDS, values), ("masks", 2, probabilities)):
        content = source[: DATES * bands * height * width]
        np.save(f"{stem}_{kind}.npy", content.reshape(DATES, bands, height, width))
    days = [datetime.date(2021, 1, 3) + datetime.timedelta(6 * index) for index in range(DATES)]
    Path(f"{stem}_products.txt").write_text("".join(f"{product_name(day, 'T31UDP')}\n" for day in days))
    files = (f"{stem}_{name}" for name in ("data.npy", "masks.npy", "products.txt"))
    return SuperArea(f"D{number // 20:03d}_2021", f"Z{number}_UF", *files)


@contextmanager
def limited_memory(limit: int) -> Iterator[Path | None]:
    """A memory cgroup whose processes share `limit` bytes, page cache included; None if none may be made."""
    group = next(filter(None, (make_group(parent, limit) for parent in parents())), None)
    try:
        yield group
    finally:
        if group:
            group.rmdir()


def parents() -> Iterator[Path]:
    """Folders in which a memory cgroup may be made, for version 1 and version 2 of cgroups."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers in ("memory", ""):
            root = GROUPS / controllers
            yield from (root / own.lstrip("/"), root)


def make_group(parent: Path, limit: int) -> Path | None:
    """Make a group with that limit; if that fails, remove it and return None."""
    group = parent / f"reading_order_{os.getpid()}"
    with suppress(OSError):
        group.mkdir()
        for file in (group / "memory.limit_in_bytes", group / "memory.max"):
            with suppress(OSError):
                if file.exists():
                    file.write_text(str(limit))
                    return group
        group.rmdir()
    return None


def enter(group: Path | None) -> None:
    """Move this process into the group."""
    if group:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def drop(files: Iterator[str]) -> None:
    """Remove these files from the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_cold(order: Sequence[Patch], ahead: bool, group: Path | None) -> Reading:
    """Read in a fresh process, in the group."""
    areas = {patch.super_area for patch in order}
    drop(path for area in areas for path in (area.data, area.masks))
    drop(iter({patch.image for patch in order}))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, enter, (group,)) as pool:
        return pool.submit(read, order, ahead).result()


def read(order: Sequence[Patch], ahead: bool) -> Reading:
    """Read these patches; with `ahead`, read the series of an area before its first patch."""
    openings = areas_to_open(order) if ahead else [[]] * len(order)
    spent_ahead, loaded, busy, start = 0.0, bytes_loaded(), time.process_time(), time.perf_counter()
    for patch, opening in zip(order, openings, strict=True):
        begin = time.perf_counter()
        for area in opening:
            read_ahead(area)
        if opening:
            spent_ahead += time.perf_counter() - begin
        read_request([patch], WINDOW)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return Reading(len(order), seconds, busy, spent_ahead, bytes_loaded() - loaded)


def bytes_loaded() -> int:
    """Bytes that the disk has delivered to this process so far."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["read_bytes"])


def describe_conditions(patches: Sequence[Patch], size: int, limit: int, group: Path | None) -> str:
    """What was read, with how much memory, and with which settings of the kernel."""
    device = os.stat(patches[0].super_area.data).st_dev
    bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    kernel = f"{bdi.read_text().strip()} KiB read ahead by the kernel" if bdi.exists() else "disk unknown"
    kept = f"{limit / 1e9:.1f} GB of memory" if group else "memory NOT limited, as no cgroup may be made"
    areas = len({patch.super_area for patch in patches})
    return (
        f"{len(patches)} patches of {areas} areas, series of {size / 1e9:.1f} GB, {kept}, cold, {kernel}, "
        f"load of the machine {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    """Make the data, read them in every order, append to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--areas", type=int, default=96, help="of 48 MB and 85 patches (default: %(default)s)"
    )
    parser.add_argument(
        "--random", type=int, default=600, help="patches in random order (default: %(default)s)"
    )
    parser.add_argument("--own-images", action="store_true", help="a file for each patch, as in FLAIR #2")
    parser.add_argument("--folder", type=Path, help="where to put the data (default: the temporary folder)")
    args = parser.parse_args()
    if args.areas <= OPEN_AREAS:
        parser.error(f"--areas {args.areas}: expected more than {OPEN_AREAS}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        patches = make_data(Path(folder), args.areas, args.own_images)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.npy"))
        limit = int((OPEN_AREAS / args.areas + 1) / 2 * size)  # halfway from the open areas to all of them
        start = time.perf_counter()
        sliding = draw_order(patches, SEED)
        drawn = time.perf_counter() - start
        chosen = np.random.default_rng(SEED).permutation(len(patches))[: args.random]
        orders = {
            "order of the files": (patches, False),
            f"sliding set of {OPEN_AREAS} areas, read ahead": (sliding, True),
            "the same, not read ahead": (sliding, False),
            f"random order, {len(chosen)} of them": ([patches[index] for index in chosen], False),
        }
        with limited_memory(limit) as group:
            figures = [
                describe_conditions(patches, size, limit, group),
                f"sliding order drawn in {drawn:.2f} s",
            ]
            readings = {name: read_cold(*order, group) for name, order in orders.items()}
    unit = next(iter(readings.values()))
    if unit.loaded < size / 2:
        sys.exit("error: the files were in the page cache or in memory; put them on a disk with --folder")
    figures += [f"{name} {reading.describe(unit)}" for name, reading in readings.items()]
    append_record(" ".join(["python benchmarks/reading_order.py", *sys.argv[1:]]), figures, ("numpy",))


if __name__ == "__main__":
    run_command(main)
