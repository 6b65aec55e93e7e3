"""The toy data set on disk: FLAIR #2's folders, names, formats and georeferencing of made-up areas."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import tempfile
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder
from flair_scoring.base.provenance import stamp
from flair_toy.aerial import PATCH_PIXELS, Flight, Units, draw_flight, draw_patch, draw_units
from flair_toy.areas import PATCH, PATCHES, SIZES, Area, plan_areas
from flair_toy.geotiff import write_geotiff
from flair_toy.landscape import CELL, EXTENT, Landscape, draw_landscape, survey
from flair_toy.metadata import draw_metadata
from flair_toy.sentinel import (
    SENTINEL_PIXELS,
    class_fractions,
    draw_dates,
    draw_series,
    product_name,
)

CENTROIDS, METADATA, MARKER = "flair-2_centroids_sp_to_patch.json", "flair_aerial_metadata.json", "toy.json"


@dataclass(frozen=True)
class Scene:
    """What an area is drawn from: its land, the looks of its parcels and structures, the flight over its
    domain, the days by which the domain's seasons are late, its land cover at 2.5 m uint8 (624, 624)."""

    land: Landscape
    units: Units
    flight: Flight
    delay: float
    values: np.ndarray


def make_toy_dataset(out: Path, size: str, seed: int, processes: int | None = None) -> dict[str, np.ndarray]:
    """Write the data set of a size in SIZES to `out`, whole or not at all.

    Returns the number of pixels of each FLAIR value in each split, int64 (20,). The same size and seed give
    the same bytes, whatever the number of `processes` (default: one per core). Replaces an earlier toy data
    set; raises UsageError when anything else is in `out` or it cannot be written.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
        raise UsageError(
            f"{out} is there and is no toy data set; name a folder that is new, empty or a toy data set"
        )
    make_folder(out.parent)
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            pixels = _write_dataset(partial / "data", size, seed, processes or os.cpu_count() or 1)
            if out.exists():
                out.rename(partial / "replaced")
            (partial / "data").rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{out}: the toy data set cannot be written ({error.strerror or error}); make room or choose "
            "another place"
        ) from error
    except BrokenExecutor as error:
        raise UsageError("a process that draws was killed; perhaps the machine ran out of memory") from error
    return pixels


def _write_dataset(root: Path, size: str, seed: int, processes: int) -> dict[str, np.ndarray]:
    areas = plan_areas(SIZES[size])
    pixels = {split: np.zeros(20, np.int64) for split in SIZES[size].splits}
    centroids: dict[str, list[int]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    drawn = [area for area in areas if not area.original]
    counts = dict(zip(drawn, _write_areas(root, drawn, SIZES[size].dates, seed, processes), strict=True))
    for area in areas:
        if area.original:
            link_area(root, area.original, area)
        pixels[area.split] += counts[area.original or area]
        names = [f"IMG_{area.first_id + patch:06d}" for patch in range(PATCHES**2)]
        series = area.original or area
        centroids |= {f"{name}.tif": series.centroid(patch) for patch, name in enumerate(names)}
        metadata |= dict(zip(names, draw_metadata(area, seed), strict=True))
    _write_json(root / CENTROIDS, dict(sorted(centroids.items())))
    _write_json(root / METADATA, dict(sorted(metadata.items())))
    _write_json(root / MARKER, {**stamp(), "size": size, "seed": seed})
    return pixels


def _write_areas(
    root: Path, areas: list[Area], dates: tuple[int, int], seed: int, processes: int
) -> list[np.ndarray]:
    """Draw all areas in parallel; pixels per FLAIR value of each."""
    progress = tqdm(total=len(areas), desc="drawing areas", unit="area", disable=None)
    with progress, concurrent.futures.ProcessPoolExecutor(processes, initializer=_leave_interrupts) as pool:
        try:
            futures = [pool.submit(write_area, root, area, dates, seed) for area in areas]
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _leave_interrupts() -> None:
    """In the worker processes: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_area(root: Path, area: Area, dates: tuple[int, int], seed: int) -> np.ndarray:
    """Draw and write one area, of dates[0] to dates[1] dates; its pixels per FLAIR value, int64 (20,)."""
    scene = _draw_scene(area, seed)
    _write_series(root, area, scene, dates, _generator(seed, area, "series"))
    pixels = np.zeros(20, np.int64)
    for patch in choose_patches(scene.values, area):
        labels = _write_patch(root, area, patch, scene, _generator(seed, area, "patch", patch))
        pixels += np.bincount(labels.ravel(), minlength=20)
    return pixels


def _generator(seed: int, area: Area, purpose: str, patch: int = 0) -> np.random.Generator:
    """Own random numbers for each purpose and area, so that nothing depends on what was drawn before."""
    return np.random.default_rng([seed, area.domain.number, area.number, *purpose.encode(), patch])


def _draw_scene(area: Area, seed: int) -> Scene:
    land = draw_landscape(_generator(seed, area, "land"))
    domain = np.random.default_rng([seed, area.domain.number])
    return Scene(
        land=land,
        units=draw_units(_generator(seed, area, "units"), land.units),
        flight=draw_flight(domain),
        delay=domain.uniform(-8, 8),
        values=survey(land, 0, 0, round(EXTENT / CELL), CELL).values,
    )


def _write_series(
    root: Path, area: Area, scene: Scene, dates: tuple[int, int], rng: np.random.Generator
) -> None:
    acquired = draw_dates(rng, area.domain.year, int(rng.integers(dates[0], dates[1] + 1)))
    days = np.array([date.timetuple().tm_yday - 1 for date in acquired])
    fractions = class_fractions(scene.values, SENTINEL_PIXELS)
    data, masks = draw_series(rng, fractions, days, scene.delay, area.domain.snowy)
    folder, stem = area.folder(root, "sen", "sen"), f"SEN2_sp_{area.domain.name}-{area.name}"
    np.save(folder / f"{stem}_data.npy", data)
    np.save(folder / f"{stem}_masks.npy", masks)
    lines = [product_name(date, area.domain.tile) + "\n" for date in acquired]
    (folder / f"{stem}_products.txt").write_text("".join(lines))


def link_area(root: Path, original: Area, copy: Area) -> None:
    """Give the files of an area a second name each, those of its copy."""
    old, new = (f"SEN2_sp_{area.domain.name}-{area.name}" for area in (original, copy))
    for kind, content in (("aerial", "img"), ("labels", "msk"), ("sen", "sen")):
        folder = copy.folder(root, kind, content)
        for path in original.folder(root, kind, content).iterdir():
            name = path.name.replace(old, new)
            if kind != "sen":
                number = int(path.stem[4:]) - original.first_id + copy.first_id
                name = f"{path.name[:4]}{number:06d}.tif"
            os.link(path, folder / name)


def choose_patches(values: np.ndarray, area: Area) -> list[int]:
    """The patches, in order, to be written: those that together show the twelve classes most evenly.

    `values` uint8 (624, 624) is the land cover of the super-area at 2.5 m.
    """
    cells = round(PATCH / CELL)
    starts = [tuple(round(metres / CELL) for metres in area.place(patch)) for patch in range(PATCHES**2)]
    windows = [values[down : down + cells, right : right + cells] for right, down in starts]
    shares = np.array([np.bincount(window.ravel(), minlength=20)[1:13] for window in windows])
    chosen: list[int] = []
    for _ in range(area.written):
        balance = np.sqrt(shares[chosen].sum(axis=0) + shares).sum(axis=1)
        balance[chosen] = -1
        chosen.append(int(balance.argmax()))
    return sorted(chosen)


def _write_patch(root: Path, area: Area, patch: int, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Write image and annotation of a patch; returns the annotation, drawn at 0.4 m and doubled."""
    half = PATCH_PIXELS // 2
    cover = survey(scene.land, *area.place(patch), half, PATCH / half)
    image = draw_patch(cover, scene.units, scene.flight, rng)
    labels = cover.values.repeat(2, axis=0).repeat(2, axis=1)
    number, (left, top) = f"{area.first_id + patch:06d}", area.patch_corner(patch)
    write_geotiff(
        area.folder(root, "aerial", "img") / f"IMG_{number}.tif", image, left, top, PATCH / PATCH_PIXELS
    )
    write_geotiff(
        area.folder(root, "labels", "msk") / f"MSK_{number}.tif", labels, left, top, PATCH / PATCH_PIXELS
    )
    return labels


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
