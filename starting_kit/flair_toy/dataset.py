"""A whole toy data set on disk: FLAIR #2's folders, names and formats, drawn by several processes at once."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import tempfile
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder
from flair_scoring.base.provenance import stamp
from flair_toy.area_files import link_area, write_area
from flair_toy.areas import PATCHES, SIZES, Area, plan_areas
from flair_toy.classes import VALUES
from flair_toy.metadata import draw_metadata

CENTROIDS, METADATA, MARKER = "flair-2_centroids_sp_to_patch.json", "flair_aerial_metadata.json", "toy.json"


def make_toy_dataset(out: Path, size: str, seed: int, processes: int | None = None) -> dict[str, np.ndarray]:
    """Write a toy data set, whole or not at all.

    Args:
        out: Folder to write. A toy data set that is there already is replaced.
        size: A key of flair_toy.areas.SIZES, as "tiny".
        seed: 0 or more. The same size and seed give the same bytes, whatever the number of processes.
        processes: How many draw at once; by default one for each core.

    Returns:
        For each split the number of pixels of each FLAIR value, int64 (20,).

    Raises:
        UsageError: `out` holds anything but a toy data set, or cannot be written.
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
            "another folder"
        ) from error
    except BrokenExecutor as error:
        raise UsageError("a process that draws was killed; perhaps the machine ran out of memory") from error
    return pixels


def _write_dataset(root: Path, size: str, seed: int, processes: int) -> dict[str, np.ndarray]:
    areas = plan_areas(SIZES[size])
    pixels = {split: np.zeros(VALUES, np.int64) for split in SIZES[size].splits}
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
    """Draw all areas in parallel; returns the pixels per FLAIR value of each, int64 (20,)."""
    progress = tqdm(total=len(areas), desc="drawing areas", unit="area", disable=None)
    with progress, concurrent.futures.ProcessPoolExecutor(processes, initializer=_ignore_interrupts) as pool:
        try:
            futures = [pool.submit(write_area, root, area, dates, seed) for area in areas]
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _ignore_interrupts() -> None:
    """In the processes that draw: only their parent answers Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
