"""Pixels without data: 0 in all spectral bands. They are no measurements of black ground.

IGN has removed the dates with such pixels from the series, so a date or an image without any data is a
damaged file. So is one whose bands have one value each everywhere, and an annotation that is 0 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flair_ingestion.dataset.superarea import SuperArea, open_super_area
from flair_scoring.base.errors import DataError

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
    """Counts of an aerial image uint8 (5, H, W); DataError with its `path` if it is constant."""
    empty = int((np.bitwise_or.reduce(image[:SPECTRAL_BANDS]) == 0).sum())
    if empty == image[0].size:
        raise DataError(
            f"{path}: holds no data: red, green, blue and near infrared are 0 everywhere; unpack it again"
        )
    if all(band.min() == band.max() for band in image[:SPECTRAL_BANDS]):
        raise DataError(
            f"{path}: red, green, blue and near infrared have one value each everywhere; unpack it again"
        )
    return Nodata(image_pixels=image[0].size, image_empty=empty)


def check_annotation(labels: np.ndarray, path: str) -> None:
    """DataError with its `path` for an annotation uint8 (H, W) that is 0 everywhere."""
    if not labels.any():
        raise DataError(f"{path}: is 0 everywhere, which is no class; unpack it again")


def count_series(area: SuperArea) -> Nodata:
    """Counts of an area's series, of which all is read.

    DataError that names the dates without any data, the constant dates, and the bands that are constant on
    all the other dates.
    """
    data, _, dates = open_super_area(area)
    size = data.shape[2] * data.shape[3]
    empty = np.array([(np.bitwise_or.reduce(image) == 0).sum() for image in data])
    least = np.array([image.min((1, 2)) for image in data])  # dates x bands
    most = np.array([image.max((1, 2)) for image in data])
    blank = empty == size
    constant = (least == most).all(1) & ~blank
    problems = []
    if blank.any():
        named = f"{blank.sum()} of {len(dates)} dates hold no data ({_name_dates(dates[blank])})"
        problems.append(f"{named}: all bands are 0 everywhere")
    if constant.any():
        named = f"({_name_dates(dates[constant])})"
        problems.append(f"{constant.sum()} of {len(dates)} dates hold one value per band everywhere {named}")
    sound = ~blank & ~constant
    others = "all dates" if sound.all() else "all other dates"
    for band in range(data.shape[1]) if sound.any() else ():
        low, high = least[sound, band].min(), most[sound, band].max()
        if low == high:
            problems.append(f"band {band + 1} is {low} on {others}")
    if problems:
        raise DataError(f"{area.data}: {'; '.join(problems)}; unpack it again")
    return Nodata(
        series_pixels=size * len(dates),
        series_empty=int(empty.sum()),
        dates=len(dates),
        dates_empty=int((empty > 0).sum()),
    )


def _name_dates(days: np.ndarray) -> str:
    """The first days, and a sign that there are more."""
    named = ", ".join(str(day) for day in days[:_NAMED].astype("datetime64[D]"))
    return named + (", …" if len(days) > _NAMED else "")
