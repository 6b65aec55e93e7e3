"""Pixels without data: 0 in all spectral bands. They are no measurements of black ground.

IGN has removed the dates with such pixels from the series, so a date or an image without any data is a
damaged file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flair_ingestion.superarea import SuperArea, open_super_area
from flair_scoring.errors import DataError

SPECTRAL_BANDS = 4  # of an aerial image: red, green, blue, near infrared; the fifth is a height, often 0
_NAMED = 3  # dates


@dataclass
class Nodata:
    """Pixels of images and of series, and dates of series: how many there are, and how many lack data.

    A pixel of a series is one on one date. A date lacks data if one of its pixels does.
    """

    image_pixels: int = 0
    image_empty: int = 0
    series_pixels: int = 0
    series_empty: int = 0
    dates: int = 0
    dates_empty: int = 0

    def add(self, other: Nodata) -> None:
        """Add the counts of another part of the data."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


def count_image(image: np.ndarray, path: str) -> Nodata:
    """Counts of an aerial image uint8 (5, H, W); DataError that names its `path` if it has no data at all."""
    empty = int((np.bitwise_or.reduce(image[:SPECTRAL_BANDS]) == 0).sum())
    if empty == image[0].size:
        raise DataError(
            f"{path}: holds no data: red, green, blue and near infrared are 0 everywhere; unpack it again"
        )
    return Nodata(image_pixels=image[0].size, image_empty=empty)


def count_series(area: SuperArea) -> Nodata:
    """Counts of an area's series, of which all is read; DataError that names the dates without any data."""
    data, _, dates = open_super_area(area)
    size = data.shape[2] * data.shape[3]
    empty = np.array([(np.bitwise_or.reduce(image) == 0).sum() for image in data])
    if len(blank := dates[empty == size]):
        named = ", ".join(str(day) for day in blank[:_NAMED].astype("datetime64[D]"))
        named += ", …" if len(blank) > _NAMED else ""
        raise DataError(
            f"{area.data}: {len(blank)} of {len(dates)} dates hold no data ({named}): all bands are 0 "
            "everywhere; unpack it again"
        )
    return Nodata(
        series_pixels=size * len(dates),
        series_empty=int(empty.sum()),
        dates=len(dates),
        dates_empty=int((empty > 0).sum()),
    )
