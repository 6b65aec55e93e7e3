"""Writes a map as GeoTIFF: tiled, compressed, in Lambert-93, labels with the colours of their classes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile

from flair_scoring.maps.georeference import LAMBERT_93
from flair_scoring.maps.mosaic import Grid
from flair_scoring.nomenclature import Nomenclature

NO_DATA = 255  # in a map of labels, where no patch lies
_TILE = (512, 512)
_SCALE, _TIE, _KEYS, _CITATION, _NO_DATA_TAG = 33550, 33922, 34735, 34737, 42113  # GeoTIFF and GDAL tags
_NAME = "RGF93 v1 / Lambert-93|"


def encode_labels(labels: np.ndarray, grid: Grid, nomenclature: Nomenclature) -> bytes:
    """Class indices uint8 (height, width), NO_DATA where there are none, as a GeoTIFF with a palette."""
    palette = np.zeros((3, 256), np.uint16)
    for index, colour in enumerate(nomenclature.colours_with_other):
        palette[:, index] = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) * np.uint16(257)
    palette[:, NO_DATA] = 65535
    no_data = (_NO_DATA_TAG, "s", 0, str(NO_DATA), True)
    return _encode(labels, grid, photometric="palette", colormap=palette, extratags=[no_data])


def encode_image(pixels: np.ndarray, covered: np.ndarray, grid: Grid) -> bytes:
    """Red, green, blue uint8 (height, width, 3) as a GeoTIFF, transparent where `covered` is False."""
    alpha = np.where(covered, 255, 0).astype(np.uint8)
    image = np.dstack([pixels, alpha])
    return _encode(image, grid, photometric="rgb", extrasamples=["unassalpha"], extratags=[])


def _encode(raster: np.ndarray, grid: Grid, extratags: list[tuple], **options: Any) -> bytes:
    # GeoTIFF 1.1: version, then key, place, count, value: projected, pixels are areas, EPSG code, metres
    keys: tuple[int, ...] = (1, 1, 0, 5, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, _CITATION, len(_NAME), 0)
    keys += (3072, 0, 1, LAMBERT_93, 3076, 0, 1, 9001)
    place = [
        (_SCALE, "d", 3, (grid.pixel, grid.pixel, 0.0), True),
        (_TIE, "d", 6, (0.0, 0.0, 0.0, grid.west, grid.north, 0.0), True),
        (_KEYS, "H", len(keys), keys, True),
        (_CITATION, "s", 0, _NAME, True),
    ]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        raster,
        tile=_TILE,
        compression="zlib",
        metadata=None,
        extratags=[*place, *extratags],
        **options,
    )
    return buffer.getvalue()
