"""Sentinel-2 series as the model reads them: cloud filter, monthly means, reflectances, days of the year."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

REFLECTANCE_ONE = 10_000  # digital number of reflectance 1
CLOUD_PROBABILITY = 50  # per cent; a pixel above it counts as covered (datapaper, "filter clouds")
CLOUD_COVERAGE = 0.6  # share of covered pixels from which a date is left out


def find_clear_dates(masks: np.ndarray) -> np.ndarray:
    """Indices of the dates to keep, from probabilities uint8 (T, 2, S, S) of snow and cloud, 0..100.

    A date goes when at least 60 % of the super-patch's pixels exceed probability 50 for snow or for cloud; a
    pixel that exceeds it for both counts once. When every date would go, those with the least coverage stay:
    the paper is silent about that case, and the model needs a date.
    """
    covered = (masks > CLOUD_PROBABILITY).any(axis=1).mean(axis=(1, 2))
    clear = covered < CLOUD_COVERAGE
    return np.flatnonzero(clear if clear.any() else covered == covered.min())


def find_days_of_year(dates: np.ndarray) -> np.ndarray:
    """Days since 1970-01-01, int32 (T,) -> days since 1 January of their own year, int32 (T,), 0..365."""
    days = dates.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(np.int32)


def average_months(data: np.ndarray, dates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean image and mean day of the year of every calendar month that has dates.

    data uint16 (T, bands, S, S); dates int32 (T,), days since 1970-01-01, in any order.
    Returns float32 (M, bands, S, S) and float32 (M,), M <= 12, from January on.
    """
    months = dates.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12
    days = find_days_of_year(dates)
    images, positions = [], []
    for month in np.unique(months):
        chosen = np.flatnonzero(months == month)
        total = data[chosen[0]].astype(np.uint32)
        for date in chosen[1:]:
            total += data[date]
        images.append(total / np.float32(len(chosen)))
        positions.append(days[chosen].mean())
    return np.stack(images).astype(np.float32), np.array(positions, dtype=np.float32)


def prepare_series(
    data: np.ndarray, masks: np.ndarray, dates: np.ndarray, cloud_filter: bool, monthly_average: bool
) -> tuple[Tensor, Tensor]:
    """A super-patch as stored -> reflectances float32 (K, bands, S, S) and days of the year float32 (K,).

    data uint16 (T, bands, S, S); masks uint8 (T, 2, S, S), snow and cloud; dates int32 (T,) since 1970-01-01.
    """
    if cloud_filter:
        kept = find_clear_dates(masks)
        data, dates = data[kept], dates[kept]
    if monthly_average:
        images, days = average_months(data, dates)
    else:
        images, days = data.astype(np.float32), find_days_of_year(dates).astype(np.float32)
    return torch.from_numpy(images / np.float32(REFLECTANCE_ONE)), torch.from_numpy(days)


def pad_series(series: Sequence[Tensor], days: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One batch of series of different lengths: (B, T, bands, S, S), days (B, T), present bool (B, T)."""
    lengths = torch.tensor([len(one) for one in days])
    present = torch.arange(int(lengths.max())) < lengths[:, None]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(list(series), batch_first=True), pad(list(days), batch_first=True), present
