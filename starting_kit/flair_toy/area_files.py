"""The files of one made-up area: images and labels as GeoTIFF, and the Sentinel-2 series."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from flair_toy.aerial import PATCH_PIXELS, Flight, Units, draw_flight, draw_patch, draw_units
from flair_toy.areas import PATCH, PATCHES, Area
from flair_toy.classes import VALUES
from flair_toy.landscape import CELL, EXTENT, Landscape, draw_landscape, survey
from flair_toy.sentinel import SENTINEL_PIXELS, class_fractions, draw_dates, draw_series, product_name

_CITATION = "RGF93 v1 / Lambert-93|"
# GeoTIFF 1.1, section 7: version and number of keys, then (key, tag that holds the value, count, value) each
_GEO_KEYS = (
    *(1, 1, 0, 5),
    *(1024, 0, 1, 1),  # model: projected
    *(1025, 0, 1, 1),  # raster: pixel is area
    *(1026, 34737, len(_CITATION), 0),
    *(3072, 0, 1, 2154),  # EPSG code of the projection
    *(3076, 0, 1, 9001),  # metre
)


@dataclass(frozen=True)
class Scene:
    """All that the files of an area are drawn from.

    `land` is the landscape, `units` the appearance of its parcels and structures, `flight` the flight over
    the domain. The seasons of the domain are `delay` days late. `values` uint8 (624, 624) is the land cover
    at 2.5 m as FLAIR values.
    """

    land: Landscape
    units: Units
    flight: Flight
    delay: float
    values: np.ndarray


def write_area(root: Path, area: Area, dates: tuple[int, int], seed: int) -> np.ndarray:
    """Draw an area and write its files into the data set in `root`.

    The series has at least dates[0] and at most dates[1] dates. Returns the number of pixels of each FLAIR
    value in the written labels, int64 (20,).
    """
    scene = _draw_scene(area, seed)
    _write_series(root, area, scene, dates, _generator(seed, area, "series"))
    pixels = np.zeros(VALUES, np.int64)
    for patch in choose_patches(scene.values, area):
        labels = _write_patch(root, area, patch, scene, _generator(seed, area, "patch", patch))
        pixels += np.bincount(labels.ravel(), minlength=VALUES)
    return pixels


def link_area(root: Path, original: Area, copy: Area) -> None:
    """Make the files of `copy`: hard links to those of `original`, under names of its own."""
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
    """Numbers of the patches to be written, in order: together they show the twelve classes most evenly.

    `values` uint8 (624, 624) is the land cover of the super-area at 2.5 m.
    """
    cells = round(PATCH / CELL)
    starts = [tuple(round(metres / CELL) for metres in area.offset(patch)) for patch in range(PATCHES**2)]
    windows = [values[down : down + cells, right : right + cells] for right, down in starts]
    shares = np.array([np.bincount(window.ravel(), minlength=VALUES)[1:13] for window in windows])
    chosen: list[int] = []
    for _ in range(area.written):
        balance = np.sqrt(shares[chosen].sum(axis=0) + shares).sum(axis=1)
        balance[chosen] = -1
        chosen.append(int(balance.argmax()))
    return sorted(chosen)


def write_raster(path: Path, pixels: np.ndarray, left: float, top: float, resolution: float) -> None:
    """Write uint8 (H, W), or (H, W, bands) pixel-interleaved, as a GeoTIFF with one deflate strip.

    `left` and `top` are the Lambert-93 coordinates (EPSG:2154) of the outer corner of the first pixel.
    `resolution` is the side of a pixel. All three are in metres. The same arguments give the same bytes.
    """
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        rowsperstrip=len(pixels),
        compression="adobe_deflate",
        compressionargs={"level": 1},
        metadata=None,  # no description of the array, no name of the software, no date
        software=False,
        extratags=[
            (33550, "d", 3, (resolution, resolution, 0.0), True),  # ModelPixelScale
            (33922, "d", 6, (0.0, 0.0, 0.0, left, top, 0.0), True),  # ModelTiepoint
            (34735, "H", len(_GEO_KEYS), _GEO_KEYS, True),  # GeoKeyDirectory
            (34737, "s", 0, _CITATION, True),  # GeoAsciiParams
        ],
    )


def _generator(seed: int, area: Area, purpose: str, patch: int = 0) -> np.random.Generator:
    """Random numbers of their own for each purpose and area: they depend on nothing that was drawn before."""
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


def _write_patch(root: Path, area: Area, patch: int, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Write the image and the labels of a patch; returns the labels, uint8 (512, 512)."""
    half = PATCH_PIXELS // 2  # the labels are drawn at 0.4 m, each pixel stands for 2 x 2
    cover = survey(scene.land, *area.offset(patch), half, PATCH / half)
    image = draw_patch(cover, scene.units, scene.flight, rng)
    labels = cover.values.repeat(2, axis=0).repeat(2, axis=1)
    number = f"{area.first_id + patch:06d}"
    where = (*area.patch_corner(patch), PATCH / PATCH_PIXELS)
    write_raster(
        area.folder(root, "aerial", "img") / f"IMG_{number}.tif",
        np.ascontiguousarray(np.moveaxis(image, 0, -1)),
        *where,
    )
    write_raster(area.folder(root, "labels", "msk") / f"MSK_{number}.tif", labels, *where)
    return labels
