"""Classes of the toy data set: what they look like from the aircraft and through the year from Sentinel-2.

The aerial image and the series together tell the twelve scored classes apart. Either of them alone does not.

Classes that look alike from the air share one *look*. They differ only in the day of the year on which their
annual cycle peaks: over a year, a Sentinel-2 band takes the same values in another order. Only a model that
reads dates can separate these classes.

Some looks share one spectrum: at 10 m, roofs, roads, gravel and bare soil are all mineral ground, and leaves
are as green on a shrub as on a tree. Sentinel-2 never sees a difference between building, pervious surface,
impervious surface and bare soil, nor between deciduous forest and brushwood, nor between coniferous forest
and vineyard. Colour, texture and height in the aerial image show these differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BUILDING, PERVIOUS, IMPERVIOUS, SOIL, WATER, CONIFEROUS, DECIDUOUS, BRUSHWOOD, VINEYARD = range(1, 10)
HERBACEOUS, AGRICULTURAL, PLOWED, POOL = range(10, 14)
CLEAR_CUT, GREENHOUSE = 15, 18
VALUES = 20  # FLAIR values are 0..19
YEAR = 365.25  # days


@dataclass(frozen=True)
class Look:
    """Classes that look alike from the air, as FLAIR values, and how they look.

    From the air: `colour` is R, G, B, NIR 0..255; grain, mottle, crowns and rows are strengths of textures;
    `height` is lowest and highest in metres.
    From Sentinel-2: the reflectance per mille in B2 B3 B4 B5 B6 B7 B8 B8A B11 B12 is mean + swing cos(2 pi
    (day - peak) / YEAR). `peak` is the day of the first class; those of the others follow evenly.
    """

    classes: tuple[int, ...]
    colour: tuple[int, int, int, int]
    mean: tuple[int, ...]
    swing: tuple[int, ...] = (8,) * 10
    peak: float = 190.0
    grain: float = 0.05
    mottle: float = 0.0
    crowns: float = 0.0
    rows: float = 0.0
    height: tuple[float, float] = (0.0, 0.0)


# What looks share in Sentinel-2's bands
_MINERAL = (115, 135, 155, 175, 195, 210, 225, 235, 285, 245)
_WOODY = (40, 62, 54, 100, 180, 208, 225, 235, 155, 90)
_WOODY_SWING = (-8, -6, -20, -8, 60, 72, 80, 80, -40, -32)

LOOKS = (
    Look(
        (HERBACEOUS, AGRICULTURAL, PLOWED),
        colour=(122, 132, 92, 148),
        mean=(60, 90, 92, 140, 220, 250, 270, 280, 220, 150),
        swing=(-16, -10, -42, -12, 72, 90, 100, 100, -55, -55),
        peak=110,
        mottle=0.07,
        rows=0.06,
        height=(0, 0.6),
    ),
    Look(
        (DECIDUOUS, CONIFEROUS),
        colour=(66, 84, 60, 118),
        mean=_WOODY,
        swing=_WOODY_SWING,
        grain=0.10,
        mottle=0.08,
        crowns=0.45,
        height=(8, 25),
    ),
    Look(
        (BRUSHWOOD, VINEYARD),
        colour=(112, 108, 78, 112),
        mean=_WOODY,
        swing=_WOODY_SWING,
        grain=0.10,
        mottle=0.10,
        crowns=0.25,
        rows=0.20,
        height=(0.8, 2.6),
    ),
    Look((BUILDING,), (150, 130, 120, 120), _MINERAL),
    Look((PERVIOUS,), (188, 174, 148, 140), _MINERAL, grain=0.09),
    Look((IMPERVIOUS,), (136, 137, 141, 96), _MINERAL, grain=0.04),
    Look((SOIL,), (160, 122, 90, 112), _MINERAL, grain=0.08, mottle=0.10),
    Look(
        (WATER,),
        (62, 88, 84, 28),
        (50, 60, 45, 38, 32, 28, 25, 20, 12, 10),
        (4,) * 10,
        grain=0.03,
        mottle=0.06,
    ),
    Look((POOL,), (84, 186, 206, 50), (150, 180, 120, 100, 70, 60, 55, 50, 30, 20), (4,) * 10, grain=0.03),
    Look((CLEAR_CUT,), (142, 122, 108, 104), _MINERAL, grain=0.22),
    Look((GREENHOUSE,), (214, 220, 226, 190), _MINERAL, rows=0.05),
)

# FLAIR value -> index in LOOKS, or len(LOOKS) for a value that is never drawn
LOOK_OF = np.full(VALUES, len(LOOKS), np.uint8)
MEAN, SWING = np.zeros((VALUES, 10), np.float32), np.zeros((VALUES, 10), np.float32)  # reflectance 0..1
PEAK = np.zeros(VALUES, np.float32)
for _index, _look in enumerate(LOOKS):
    for _turn, _value in enumerate(_look.classes):
        LOOK_OF[_value] = _index
        MEAN[_value], SWING[_value] = np.divide(_look.mean, 1000), np.divide(_look.swing, 1000)
        PEAK[_value] = _look.peak + _turn * YEAR / len(_look.classes)
