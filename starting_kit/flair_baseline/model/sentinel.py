"""Sentinel-2 series as the model reads them: chosen dates, monthly means, reflectances, days of the year."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

REFLECTANCE_ONE = 10_000  # digital number of reflectance 1
CLOUD_PROBABILITY = 50  # per cent; a pixel above it counts as covered (datapaper, "filter clouds")
CLOUD_COVERAGE = 0.6  # share of covered pixels from which a date is left out
FIRST_DAYS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], np.int32)  # of months in 2021
MONTHS = len(FIRST_DAYS)
OFFICIAL_PROBABILITY, OFFICIAL_COVERAGE = 60, 0.5  # IGN's code swaps the paper's 50 % and 60 %


def find_clear_dates(masks: np.ndarray, rule: str = "paper") -> np.ndarray:
    """Indices of the dates to keep, from probabilities uint8 (T, 2, S, S) of snow and cloud, 0..100.

    With the rule "paper" a date is left out when at least 60 % of the super-patch's pixels exceed
    probability 50 for snow or for cloud; a pixel that exceeds it for both counts once.
    With the rule "official", which is that of IGN's code, a date is left out when at least half of the
    super-patch's pixels have probability 60 or more; a pixel that has it for both counts twice.
    When every date would be left out, those with the least coverage stay, because the model needs a date. The
    paper does not mention that case, and IGN's code fails.
    """
    if rule == "official":
        pixels, most = (masks >= OFFICIAL_PROBABILITY).reshape(len(masks), -1), OFFICIAL_COVERAGE
    else:
        pixels = (masks > CLOUD_PROBABILITY).any(axis=1).reshape(len(masks), -1)
        most = CLOUD_COVERAGE
    covered = pixels.sum(axis=1, dtype=np.int32) / masks[0, 0].size
    clear = covered < most
    return np.flatnonzero(clear if clear.any() else covered == covered.min())


def choose_dates(data: np.ndarray, masks: np.ndarray, rule: str | None) -> np.ndarray:
    """Indices of the dates that the model reads: the clear ones among those with data in the window.

    data uint16 (T, bands, S, S), of which little is read; masks and rule as for `find_clear_dates`; with rule
    None cloudy dates stay too. A date that is 0 everywhere holds no data. If no date holds data, the clear
    dates stay.
    """
    kept = _find_clear(masks, rule)
    if (with_data := kept[_hold_data(data, kept)]).size:
        return with_data
    others = np.flatnonzero(_hold_data(data, np.arange(len(data))))
    return others[_find_clear(masks[others], rule)] if others.size else kept


def _find_clear(masks: np.ndarray, rule: str | None) -> np.ndarray:
    return find_clear_dates(masks, rule) if rule else np.arange(len(masks))


def _hold_data(data: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Whether each of these dates has a pixel above 0, bool (K,)."""
    found = np.any(data[dates, :, 0, 0], axis=1)  # nearly always the first pixel tells
    for index in np.flatnonzero(~found):
        found[index] = data[dates[index]].any()
    return found


def find_days(dates: np.ndarray, official: bool) -> np.ndarray:
    """Days of the year as this kit or as IGN's code counts them; dates as for `find_days_of_year`."""
    return find_official_days(dates) if official else find_days_of_year(dates)


def find_days_of_year(dates: np.ndarray) -> np.ndarray:
    """Days since 1970-01-01, int32 (T,) -> days since 1 January of their own year, int32 (T,), 0..365."""
    days = dates.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(np.int32)


def find_official_days(dates: np.ndarray, monthly: bool = False) -> np.ndarray:
    """Days of the year as IGN's code counts them, int32 (T,), 0..364; dates as for `find_days_of_year`.

    That code moves every date to 2021, which has no 29 February, and fails on that day; here it counts as the
    28th. With `monthly` every date counts as the 15th of its month.
    """
    dates = dates.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    first = FIRST_DAYS[months.astype(int) % 12]
    if monthly:
        return first + 14
    days = first + (dates - months).astype(np.int32)
    return np.where((first == 31) & (days == 59), 58, days)  # 29 February


def count_months(dates: np.ndarray, official_days: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The calendar months that occur in dates, int32 (K,), days since 1970-01-01, in any order.

    Returns for each date the place of its month among those that occur, from January on, int64 (K,); and for
    each of these months its mean day of the year and the number of its dates, float32 (M,) each, M <= 12.
    With `official_days` the day is the 15th of the month.
    """
    months = dates.astype("datetime64[D]").astype("datetime64[M]").astype(int) % MONTHS
    days = find_official_days(dates, monthly=True) if official_days else find_days_of_year(dates)
    present, places, counts = np.unique(months, return_inverse=True, return_counts=True)
    means = np.bincount(months, days)[present] / counts
    return places, means.astype(np.float32), counts.astype(np.float32)


def average_months(
    data: np.ndarray, dates: np.ndarray, kept: np.ndarray, official_days: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean image and mean day of the year of every calendar month that has kept dates.

    data uint16 (T, bands, S, S); dates int32 (T,), days since 1970-01-01, in any order; kept: indices of the
    dates that count, the only ones that are read. With `official_days` the day is the 15th of the month.
    Returns float32 (M, bands, S, S) and float32 (M,), M <= 12, from January on.
    """
    places, days, counts = count_months(dates[kept], official_days)
    images = np.empty((len(days), *data.shape[1:]), dtype=np.float32)
    for place, image in enumerate(images):
        first, *others = kept[places == place]
        image[...] = data[first]
        for date in others:
            image += data[date]  # exact: a month has 31 days, and float32 holds integers up to 2**24
        image /= counts[place]
    return images, days


def prepare_series(
    data: np.ndarray,
    masks: np.ndarray,
    dates: np.ndarray,
    cloud_filter: bool,
    monthly_average: bool,
    cloud_rule: str = "paper",
    official_days: bool = False,
) -> tuple[Tensor, Tensor]:
    """A super-patch as stored -> reflectances float32 (K, bands, S, S) and days of the year float32 (K,).

    data uint16 (T, bands, S, S); masks uint8 (T, 2, S, S), snow and cloud; dates int32 (T,) since 1970-01-01.
    Dates without data in the window are left out. `official_days` counts days as IGN's code does, for
    networks that it has trained.
    """
    kept = choose_dates(data, masks, cloud_rule if cloud_filter else None)
    if monthly_average:
        images, days = average_months(data, dates, kept, official_days)
    else:
        images, days = data[kept].astype(np.float32), find_days(dates[kept], official_days)
    images /= np.float32(REFLECTANCE_ONE)
    return torch.from_numpy(images), torch.from_numpy(days.astype(np.float32))


def pad_series(series: Sequence[Tensor], days: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """One batch of series of different lengths: (B, T, bands, S, S), days (B, T), padding mask bool (B, T).

    The padding mask is True where a date only pads the batch. It is None when all series are equally long:
    then the model computes without it.
    """
    lengths = torch.tensor([len(one) for one in days])
    padding_mask = torch.arange(int(lengths.max())) >= lengths[:, None]
    pad = torch.nn.utils.rnn.pad_sequence
    padded = pad(list(series), batch_first=True), pad(list(days), batch_first=True)
    return *padded, padding_mask if padding_mask.any() else None
