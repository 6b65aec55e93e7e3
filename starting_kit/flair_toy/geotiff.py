"""Write uint8 rasters as GeoTIFF in Lambert-93, with nothing but the tags that FLAIR's files need."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np

_ASCII, _SHORT, _LONG, _DOUBLE = 2, 3, 4, 12
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}
_DEFLATE = 8
_CITATION = b"RGF93 v1 / Lambert-93|\0"
# GeoTIFF 1.1, section 7: version and number of keys, then (key, tag that holds the value, count, value) each
_GEO_KEYS = (
    *(1, 1, 0, 5),
    *(1024, 0, 1, 1),  # model: projected
    *(1025, 0, 1, 1),  # raster: pixel is area
    *(1026, 34737, len(_CITATION) - 1, 0),
    *(3072, 0, 1, 2154),  # EPSG code of the projection
    *(3076, 0, 1, 9001),  # metre
)


def write_geotiff(path: Path, pixels: np.ndarray, left: float, top: float, resolution: float) -> None:
    """Write uint8 (H, W) or (bands, H, W), pixel-interleaved, as one deflate strip.

    `left` and `top` are the Lambert-93 coordinates (EPSG:2154) of the outer corner of the first pixel and
    `resolution` is the side of a pixel, all in metres.
    """
    bands = np.moveaxis(pixels.reshape(-1, *pixels.shape[-2:]), 0, -1)
    height, width, count = bands.shape
    strip = imagecodecs.deflate_encode(bands.tobytes(), level=1)
    tags: list[tuple[int, int, Sequence[float] | bytes]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [8] * count),
        (259, _SHORT, [_DEFLATE]),
        (262, _SHORT, [1]),  # photometric: black is zero
        (273, _LONG, [8]),  # the strip follows the header of 8 bytes
        (277, _SHORT, [count]),
        (278, _LONG, [height]),  # rows per strip
        (279, _LONG, [len(strip)]),
        (284, _SHORT, [1]),  # pixel-interleaved
        *([(338, _SHORT, [0] * (count - 1))] if count > 1 else []),  # what the other bands are: unspecified
        (33550, _DOUBLE, [resolution, resolution, 0.0]),
        (33922, _DOUBLE, [0.0, 0.0, 0.0, left, top, 0.0]),
        (34735, _SHORT, _GEO_KEYS),
        (34737, _ASCII, _CITATION),
    ]
    directory = 8 + len(strip) + len(strip) % 2
    header = struct.pack("<2sHI", b"II", 42, directory)
    path.write_bytes(header + strip + b"\0" * (len(strip) % 2) + _directory(tags, directory))


def _directory(tags: list[tuple[int, int, Sequence[float] | bytes]], offset: int) -> bytes:
    """The image file directory at `offset`, followed by the values that do not fit into its entries."""
    values_at = offset + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for tag, kind, content in tags:
        count = len(content)
        packed = content if isinstance(content, bytes) else struct.pack(f"<{count}{_FORMATS[kind]}", *content)
        if len(packed) > 4:
            where = struct.pack("<I", values_at + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            where = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + where
    return entries + struct.pack("<I", 0) + values
