"""Aerial images of made-up land cover: red, green, blue, near infrared and height above ground.

Classes of one look (flair_toy/classes.py) are drawn alike: from the air nobody can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from flair_toy.classes import BUILDING, LOOK_OF, LOOKS
from flair_toy.landscape import Cover, smooth_noise

PATCH_PIXELS = 512
ELEVATION_STEP = 0.2  # metres per unit of the fifth band
_COLOUR = np.array([look.colour for look in LOOKS], np.float32)
_GRAIN, _MOTTLE, _CROWNS, _ROWS, _LOW, _HIGH = np.array(
    [(look.grain, look.mottle, look.crowns, look.rows, *look.height) for look in LOOKS], np.float32
).T
_ROOFS = np.array([(176, 104, 82, 128), (98, 102, 114, 84), (190, 184, 178, 150)], np.float32)


@dataclass(frozen=True)
class Flight:
    """How a domain was photographed.

    `gain` (4,) and `gamma` (4,) belong to the bands red, green, blue and near infrared; `haze` is 0..1.
    `shadow` is how far a shadow reaches down and right, in metres per metre of height.
    """

    gain: np.ndarray
    gamma: np.ndarray
    haze: float
    shadow: tuple[float, float]


@dataclass(frozen=True)
class Units:
    """How the parcels and structures of an area look, whatever their class: one entry for each unit.

    `tint` (units, 4) multiplies the colour, `roof` is an index of a roof's colour, and `level` 0..1 lies
    between the lowest and the highest height of the look. The last three describe rows, as of vines:
    direction in radians, spacing in metres, strength 0..1.
    """

    tint: np.ndarray
    roof: np.ndarray
    level: np.ndarray
    direction: np.ndarray
    spacing: np.ndarray
    rows: np.ndarray


def draw_flight(rng: np.random.Generator) -> Flight:
    """The radiometry and the sun of one domain."""
    azimuth, cotangent = rng.uniform(-0.9, 0.9), rng.uniform(0.6, 1.1)
    return Flight(
        gain=rng.uniform(0.85, 1.15) * rng.uniform(0.93, 1.07, 4).astype(np.float32),
        gamma=rng.uniform(0.85, 1.2) * rng.uniform(0.96, 1.04, 4).astype(np.float32),
        haze=rng.uniform(0, 0.16),
        shadow=(-cotangent * np.cos(azimuth), cotangent * np.sin(azimuth)),
    )


def draw_units(rng: np.random.Generator, count: int) -> Units:
    """Appearances of `count` units."""
    brightness = rng.normal(1, 0.07, (count, 1))
    return Units(
        tint=(brightness * rng.normal(1, 0.03, (count, 4))).astype(np.float32),
        roof=rng.choice(len(_ROOFS), count, p=[0.55, 0.25, 0.2]),
        level=rng.random(count, dtype=np.float32),
        direction=rng.uniform(0, np.pi, count).astype(np.float32),
        spacing=rng.uniform(1.8, 3.2, count).astype(np.float32),
        rows=rng.random(count, dtype=np.float32),
    )


def draw_patch(cover: Cover, units: Units, flight: Flight, rng: np.random.Generator) -> np.ndarray:
    """The aerial image uint8 (5, 512, 512) of a cover of 256 x 256 cells."""
    look = LOOK_OF[cover.values]
    grain = smooth_noise(rng, PATCH_PIXELS, 0.5)
    mottle = smooth_noise(rng, PATCH_PIXELS, 14)
    crowns = _crowns(rng, PATCH_PIXELS // 2)
    height = _height(cover, look, units, crowns)
    texture = _double(1 + _CROWNS[look] * crowns)
    texture += _double(_GRAIN[look]) * grain + _double(_MOTTLE[look]) * mottle
    texture += _double(_ROWS[look] * units.rows[cover.unit]) * _rows(cover, units)
    texture *= 1 - 0.5 * ndimage.uniform_filter(_double(_shade(height, flight.shadow)), 3)
    colour = np.where((cover.values == BUILDING)[..., None], _ROOFS[units.roof[cover.unit]], _COLOUR[look])
    colour = colour * units.tint[cover.unit]
    image = np.empty((5, PATCH_PIXELS, PATCH_PIXELS), np.uint8)
    for band in range(4):
        light = np.clip(_double(colour[..., band]) * texture / 255, 0.004, 1) ** flight.gamma[band]
        light = light * flight.gain[band] * (1 - flight.haze) + 0.75 * flight.haze
        image[band] = np.clip(255 * light + rng.standard_normal(texture.shape, dtype=np.float32), 0, 255)
    image[4] = np.clip(_double(height) / ELEVATION_STEP, 0, 255)
    return image


def _double(grid: np.ndarray) -> np.ndarray:
    """Each value as a 2 x 2 block."""
    return grid.repeat(2, axis=0).repeat(2, axis=1)


def _crowns(rng: np.random.Generator, size: int) -> np.ndarray:
    """Tree crowns as domes, about 4 m wide, float32 (size, size): about 1 on their tops, -1 between them."""
    spacing = 10
    nodes = np.mgrid[0:size:spacing, 0:size:spacing]
    row, column = np.minimum(nodes + rng.integers(0, spacing - 1, nodes.shape), size - 1)
    ground = np.ones((size, size), bool)
    ground[row, column] = False
    distance, nearest = ndimage.distance_transform_edt(ground, return_indices=True)
    top = rng.uniform(0.3, 1.1, (size, size)).astype(np.float32)[tuple(nearest)]
    return np.maximum(top - (distance.astype(np.float32) / 5) ** 2, -1)


def _height(cover: Cover, look: np.ndarray, units: Units, crowns: np.ndarray) -> np.ndarray:
    """Height above ground in metres float32 (256, 256)."""
    canopy = _LOW[look] + (_HIGH - _LOW)[look] * units.level[cover.unit]
    canopy *= np.clip(1 + 0.35 * crowns, 0.4, 1.2)
    height = np.where(cover.height > 0, cover.height, canopy) + 0.1 * np.abs(crowns)
    return ndimage.uniform_filter(height, 3)


def _rows(cover: Cover, units: Units) -> np.ndarray:
    """Stripes -1..1 across the direction of each parcel, float32 (512, 512)."""
    metres = (np.arange(PATCH_PIXELS, dtype=np.float32) * 0.2)[:, None]
    frequency = 2 * np.pi / units.spacing
    down, right = np.sin(units.direction) * frequency, np.cos(units.direction) * frequency
    return np.sin(_double(down[cover.unit]) * metres + _double(right[cover.unit]) * metres.T)


def _shade(height: np.ndarray, shadow: tuple[float, float]) -> np.ndarray:
    """1 where the ground lies in a shadow, else 0, float32 (256, 256)."""
    size, margin = len(height), 64  # pixels of 0.4 m, more than the longest shadow
    padded = np.pad(height, margin)
    shaded = np.zeros(height.shape, np.float32)
    for drop in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0):  # metres
        row, column = (margin - round(drop * metres / 0.4) for metres in shadow)
        shaded[padded[row : row + size, column : column + size] > height + drop] = 1
    return shaded
