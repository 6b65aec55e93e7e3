"""Where a patch lies: the GeoTIFF tags of its aerial image, which is in Lambert-93 with north up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tifffile

from flair_scoring.base.errors import DataError

LAMBERT_93 = 2154  # EPSG code of RGF93 v1 / Lambert-93
USER_DEFINED = 32767  # in place of a code: IGN's own files spell Lambert-93 out
PIXEL_SCALE, TIE_POINT = 33550, 33922  # TIFF tags
ADVICE = "unpack IGN's archive again: programs that rewrite images often leave this out"


@dataclass(frozen=True)
class Place:
    """West and north edge of a patch and the side of its pixels, in metres of Lambert-93."""

    west: float
    north: float
    pixel: float


def read_place(image: str | Path) -> Place:
    """The place of a patch, from the tags of its aerial `image`, a path; its pixels are not read.

    Raises DataError when the image cannot be read, has no georeference, is in another coordinate system, or
    has pixels that are no squares.
    """
    try:
        with tifffile.TiffFile(image) as file:
            page = file.pages.first
            scale, tie = (page.tags.valueof(tag) for tag in (PIXEL_SCALE, TIE_POINT))
            system = (page.geotiff_tags or {}).get("ProjectedCSTypeGeoKey")
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # tifffile raises exceptions of many kinds for damaged headers
        raise DataError(f"{image}: its TIFF header is damaged; unpack IGN's archive again") from error
    if scale is None or tie is None or len(scale) < 2 or len(tie) < 6:
        raise DataError(f"{image}: has no georeference (ModelPixelScale and ModelTiepoint); {ADVICE}")
    if system not in (None, LAMBERT_93, USER_DEFINED):
        raise DataError(f"{image}: is in EPSG:{int(system)}; expected Lambert-93, EPSG:{LAMBERT_93}")
    width, height = float(scale[0]), float(scale[1])
    column, row, _, x, y, _ = (float(value) for value in tie[:6])
    if not width > 0 or abs(width - height) > 1e-6:
        raise DataError(f"{image}: has pixels of {width} x {height} m; expected squares")
    return Place(x - column * width, y + row * height, width)
