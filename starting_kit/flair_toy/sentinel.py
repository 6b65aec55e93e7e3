"""Sentinel-2 series of made-up land cover: dates, phenology, clouds and their shadows, snow."""

from __future__ import annotations

import datetime

import numpy as np

from flair_toy.classes import MEAN, PEAK, SWING, VALUES, YEAR
from flair_toy.landscape import smooth_noise

SENTINEL_PIXELS = 156
REVISIT = 5  # days


def draw_dates(rng: np.random.Generator, year: int, count: int) -> list[datetime.date]:
    """`count` days of acquisition in order, spread evenly over the year.

    29 February is left out: IGN's code fails on that date, and it should be able to read the toy data.
    """
    first, last = datetime.date(year, 1, 1), datetime.date(year, 12, 31)
    orbit = [first + datetime.timedelta(days=day) for day in range(rng.integers(REVISIT), 366, REVISIT)]
    orbit = [date for date in orbit if date <= last and (date.month, date.day) != (2, 29)]
    return [orbit[int(index)] for index in (np.arange(count) + rng.random()) * len(orbit) / count]


def product_name(date: datetime.date, tile: str) -> str:
    """Name of a Sentinel-2 product of that date; the two satellites take turns."""
    satellite = "AB"[date.toordinal() // REVISIT % 2]
    return f"S2{satellite}_MSIL2A_{date:%Y%m%d}T105031_N0214_R051_{tile}_{date:%Y%m%d}T135921"


def class_fractions(values: np.ndarray, size: int) -> np.ndarray:
    """Divide a square map of FLAIR values into size x size blocks.

    Returns the share of each FLAIR value in each block, float32 (20, size, size).
    """
    blocks = values.reshape(size, len(values) // size, size, -1)
    return np.stack([(blocks == value).mean(axis=(1, 3), dtype=np.float32) for value in range(VALUES)])


def draw_series(
    rng: np.random.Generator, fractions: np.ndarray, days: np.ndarray, delay: float, snowy: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a series: data uint16 (T, 10, H, W), reflectance x 10000, and masks uint8 (T, 2, H, W).

    The masks are probabilities of snow and cloud, 0..100. `fractions` (20, H, W) is the share of each FLAIR
    value in each pixel. `days` (T,) are days since 1 January. The seasons are `delay` days late, and each
    pixel some days more or less. It snows in winter only where `snowy`.
    """
    base, cosine, sine = _mix(fractions, delay + 5 * smooth_noise(rng, SENTINEL_PIXELS, 6))
    base *= 1 + 0.06 * np.stack([smooth_noise(rng, SENTINEL_PIXELS, 2) for _ in range(len(base))])
    data = np.empty((len(days), *base.shape), np.uint16)
    masks = np.zeros((len(days), 2, *base.shape[1:]), np.uint8)
    for index, day in enumerate(days):
        angle = 2 * np.pi * day / YEAR
        image = base + np.float32(np.cos(angle)) * cosine + np.float32(np.sin(angle)) * sine
        image *= np.float32(rng.normal(1, 0.03))
        image += 0.012 * rng.standard_normal(image.shape, dtype=np.float32)
        if snowy and (day < 60 or day > 345) and rng.random() < 0.4:
            masks[index, 0] = _add_snow(rng, image)
        masks[index, 1] = _add_clouds(rng, image)
        data[index] = np.clip(image * 10000, 1, 65535)
    return data, masks


def _mix(fractions: np.ndarray, delay: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, cosine coefficient and sine coefficient of the annual cycle of every pixel, (10, H, W) each."""
    angle = 2 * np.pi * (PEAK[:, None, None] + delay) / YEAR
    return (
        np.einsum("cb,chw->bhw", MEAN, fractions),
        np.einsum("cb,chw->bhw", SWING, fractions * np.cos(angle)),
        np.einsum("cb,chw->bhw", SWING, fractions * np.sin(angle)),
    )


def _add_clouds(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add clouds and their shadows to the image, which changes; returns their probability 0..100 (H, W)."""
    kind = rng.random()
    if kind < 0.2:
        return np.zeros(image.shape[1:], np.float32)
    share = rng.uniform(0.05, 0.6) if kind < 0.45 else rng.uniform(0.75, 1.0)
    field = smooth_noise(rng, SENTINEL_PIXELS, 12) + 0.3 * smooth_noise(rng, SENTINEL_PIXELS, 3)
    thickness = np.clip(2 * (field - np.quantile(field, 1 - share)) + 0.5, 0, 1)
    shadow = np.roll(thickness, (-7, -5), axis=(0, 1)) * (1 - thickness)  # the sun is in the south-east
    tint = np.linspace(0.62, 0.38, len(image)) * rng.uniform(0.6, 1.5) * rng.normal(1, 0.12, len(image))
    # Clouds are uneven: a network's normalisation would remove an even image, and clouds would do no harm
    cloud = thickness * (1 + 0.15 * smooth_noise(rng, SENTINEL_PIXELS, 2))
    image *= (1 - 0.55 * shadow) * (1 - thickness)
    image += cloud * tint.astype(np.float32)[:, None, None]
    return 100 * np.maximum(np.sqrt(thickness), 0.75 * np.sqrt(shadow))


def _add_snow(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add snow to the image, which changes; returns the probability of snow 0..100 (H, W)."""
    field = smooth_noise(rng, SENTINEL_PIXELS, 20)
    depth = np.clip(field + rng.uniform(-0.5, 1.5), 0, 1)
    snow = np.array([0.8, 0.8, 0.8, 0.78, 0.76, 0.74, 0.72, 0.7, 0.12, 0.1], np.float32)[:, None, None]
    image += 0.85 * depth * (snow - image)
    return 100 * np.sqrt(depth)
