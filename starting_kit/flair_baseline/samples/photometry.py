"""Photometric augmentation: brightness, contrast and hue of the aerial bands that hold light."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MOST_BRIGHTNESS, MOST_CONTRAST = 0.3, 0.3  # at strength 1 the factors are from 0.7 to 1.3
MOST_HUE = 0.05  # at strength 1 the shift is from -0.05 to 0.05 of the colour circle, 18 degrees
LIGHT = 4  # the first bands of an aerial patch: red, green, blue, near infrared; elevation follows
GREY = np.full((3, 3), 1 / 3)  # of a colour, the part along the grey axis
# Of a colour, the part across the grey axis, turned by a quarter of the colour circle from red towards green
QUARTER = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)

BLOCK = 1 << 14  # pixels that are changed at a time, a divisor of 512 x 512; they fit into the cache
# Above this number a float32 has no fraction: its lowest byte is the rounded number that was added. Copying
# that byte takes half of the time that torch takes to convert a float32 to a uint8
_NO_FRACTION = 2.0**23


class Light(NamedTuple):
    """Factors of brightness and contrast, and a shift of the hue as a part of the colour circle."""

    brightness: float
    contrast: float
    hue: float


def draw_light(generator: np.random.Generator, strength: float) -> Light:
    """Factors and a shift, each uniformly distributed; `strength` 0..1 scales their ranges.

    Brightness and contrast are from 1 - 0.3 * strength to 1 + 0.3 * strength, the hue from -0.05 * strength
    to 0.05 * strength.
    """
    brightness, contrast, hue = generator.uniform(-strength, strength, 3)
    return Light(1 + MOST_BRIGHTNESS * brightness, 1 + MOST_CONTRAST * contrast, MOST_HUE * hue)


def change_light(image: Tensor, light: Light) -> None:
    """Change the light of a patch in place: uint8 (5, 512, 512), R, G, B, near infrared and elevation.

    For a pixel x of a band, and the mean m of this band over every fourth row and column of the patch:

        contrast     x <- m + contrast * (x - m), for R, G, B and near infrared alike
        hue          (R, G, B) is turned by 2 pi * hue around the grey axis, R = G = B, from red to green.
                     This keeps the mean of the three bands and the distance from grey. Near infrared stays.
        brightness   x <- brightness * x, for R, G, B and near infrared alike

    The result is cut to 0..255 and rounded once, at the end. Elevation is not light: it stays as it is.
    """
    angle = 2 * math.pi * light.hue
    turn = np.eye(LIGHT)
    turn[:3, :3] = GREY + math.cos(angle) * (np.eye(3) - GREY) + math.sin(angle) * QUARTER
    means = image[:LIGHT, ::4, ::4].double().mean((1, 2)).numpy()
    # all three are linear: together they are one matrix and one constant for each band
    matrix = torch.from_numpy(light.brightness * light.contrast * turn).float()
    constant = torch.from_numpy(light.brightness * (1 - light.contrast) * turn @ means).float()[:, None]
    before, after = torch.empty(2, LIGHT, BLOCK)  # memory that is used again costs no page faults
    rounded = after.view(torch.uint8).view(LIGHT, BLOCK, -1)[:, :, 0]
    for part in image[:LIGHT].view(LIGHT, -1).split(BLOCK, dim=1):
        before.copy_(part)
        torch.addmm(constant, matrix, before, out=after).clamp_(0, 255).add_(_NO_FRACTION)
        part.copy_(rounded)
