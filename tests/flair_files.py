"""A tiny FLAIR #2 data set for tests, written with rasterio and numpy: real layout, made-up content."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

DOMAINS = {
    "train": ("D006_2020", "D007_2020", "D008_2019"),
    "val": ("D004_2021", "D014_2020", "D029_2021"),
    "test": ("D015_2020", "D022_2021", "D026_2020"),
}
AREA = "Z1_UF"
PATCHES = 2  # per domain
DATES = 5
HEIGHT, WIDTH = 130, 124  # of a super-area; not square, so that swapped rows and columns are noticed
CENTROIDS, METADATA = "flair-2_centroids_sp_to_patch.json", "flair_aerial_metadata.json"


def write_flair_tree(root: Path, toy: bool = False) -> Path:
    """Write 3 domains per split with 1 area of 2 patches each into `root`; `toy`: under the toy set's names.

    Ids count from 000001 through train and val, from 077413 through test.
    """
    rng = np.random.default_rng(7)
    centroids: dict[str, list[int]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    next_id = {"train": 1, "test": 77413}
    for split, domains in DOMAINS.items():
        part = "test" if split == "test" else "train"
        for domain in domains:
            write_series(area_folder(root, "sen", part, domain, toy), domain, AREA, rng)
            for patch in range(PATCHES):
                id = f"{next_id[part]:06d}"
                next_id[part] += 1
                images, labels = (area_folder(root, kind, part, domain, toy) for kind in ("aerial", "labels"))
                write_raster(images / f"IMG_{id}.tif", draw_image(rng))
                write_raster(labels / f"MSK_{id}.tif", draw_labels(rng))
                centroids[f"IMG_{id}.tif"] = [60 + patch, 55 + 10 * patch]
                metadata[f"IMG_{id}"] = make_metadata(domain, patch)
    (root / CENTROIDS).write_text(json.dumps(centroids))
    (root / METADATA).write_text(json.dumps(metadata))
    return root


def area_folder(root: Path, kind: str, part: str, domain: str, toy: bool = False, area: str = AREA) -> Path:
    """Make and return the folder of an area's files: kind aerial, sen or labels; part train or test."""
    real = f"flair_2_{kind}_test" if part == "test" else f"flair_{kind}_train"
    content = {"aerial": "img", "sen": "sen", "labels": "msk"}[kind]
    folder = root / (f"flair_2_toy_{kind}_{part}" if toy else real) / domain / area / content
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draw_image(rng: np.random.Generator) -> np.ndarray:
    """uint8 (5, 512, 512), blocks of 16 pixels, which compress well."""
    return rng.integers(0, 256, (5, 32, 32), np.uint8).repeat(16, axis=1).repeat(16, axis=2)


def draw_labels(rng: np.random.Generator) -> np.ndarray:
    """uint8 (512, 512), values 1..19, some of them rare."""
    values = (1 + 19 * rng.random((32, 32)) ** rng.uniform(0.5, 2)).astype(np.uint8)
    return values.repeat(16, axis=0).repeat(16, axis=1)


def write_raster(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write (bands, H, W) or (H, W) as a GeoTIFF on the 0.2 m grid; `options` are rasterio's."""
    planes = pixels if pixels.ndim == 3 else pixels[None]
    profile = {
        "count": len(planes),
        "height": planes.shape[1],
        "width": planes.shape[2],
        "dtype": planes.dtype,
        "transform": rasterio.Affine(0.2, 0, 873782.4, 0, -0.2, 6891028.8),
        "compress": "deflate",
    }
    with rasterio.open(path, "w", driver="GTiff", **(profile | options)) as file:
        file.write(planes)


def write_series(folder: Path, domain: str, area: str, rng: np.random.Generator, dates: int = DATES) -> None:
    """Write an area's three Sentinel-2 files, a date every seven weeks."""
    stem = f"SEN2_sp_{domain}-{area}"
    np.save(folder / f"{stem}_data.npy", rng.integers(0, 10000, (dates, 10, HEIGHT, WIDTH), np.uint16))
    np.save(folder / f"{stem}_masks.npy", rng.integers(0, 101, (dates, 2, HEIGHT, WIDTH), np.uint8))
    first = datetime.date(int(domain[5:]), 1, 20)
    days = [first + datetime.timedelta(weeks=7 * index) for index in range(dates)]
    (folder / f"{stem}_products.txt").write_text("".join(f"{product_name(day)}\n" for day in days))


def product_name(day: datetime.date) -> str:
    """Name of a Sentinel-2 product of that day, without .SAFE."""
    return f"S2A_MSIL2A_{day:%Y%m%d}T105021_N0300_R051_T31UDP_{day:%Y%m%d}T135921"


def make_metadata(domain: str, patch: int) -> dict[str, Any]:
    """An entry of the metadata json."""
    return {
        "domain": domain,
        "zone": AREA,
        "date": f"{domain[5:]}-07-{10 + patch}",
        "time": "11h42",
        "patch_centroid_x": 873833.6 + 102.4 * patch,
        "patch_centroid_y": 6890977.6,
        "patch_centroid_z": 182.5,
        "camera": "UCE-M3-f120-s06",
    }
