"""Pixels without data, which are 0 in all spectral bands, are counted; files without any data are refused.

IGN has removed the dates without data from the series. So a date or an image without any data shows that the
file is damaged. The same holds if each band has one value everywhere, or if an annotation is 0 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flair_ingestion.dataset.superarea import SuperArea, open_super_area
from flair_scoring.base.errors import DataError

SPECTRAL_BANDS = 4  # of an aerial image: red, green, blue, near infrared. The fifth is elevation, often 0
_NAMED = 3  # most dates that a message names


@dataclass
class Nodata:
    """How many pixels of images, pixels of series and dates of series there are, and how many lack data.

    A series of T dates and H x W pixels counts T x H x W pixels. A date lacks data if one of its pixels does.
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
    """Count the pixels of an aerial image uint8 (5, H, W), read from `path`.

    Raises DataError if the image holds no data, or if each spectral band has one value everywhere.
    """
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
    """Raises DataError if an annotation uint8 (H, W), read from `path`, is 0 everywhere."""
    if not labels.any():
        raise DataError(f"{path}: is 0 everywhere, which is no class; unpack it again")


def count_series(area: SuperArea) -> Nodata:
    """Count the pixels and dates of an area's series; all of its data are read.

    Raises DataError, which names the dates without any data, the dates with one value per band, and the bands
    with one value on all other dates.
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
    """The first dates of int32 (T,), and "…" if there are more."""
    named = ", ".join(str(day) for day in days[:_NAMED].astype("datetime64[D]"))
    return named + (", …" if len(days) > _NAMED else "")
