"""The outline of France lies where France lies: towns on both sides of it, and its area."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from rasterio.warp import transform

from flair_baseline.maps.france import CORSICA, MAINLAND

# Longitude and latitude in degrees
INSIDE = {
    "Paris": (2.35, 48.86),
    "Lille": (3.06, 50.63),
    "Brest": (-4.49, 48.39),
    "Strasbourg": (7.75, 48.58),
    "Nice": (7.26, 43.72),
    "Perpignan": (2.90, 42.70),
    "Bayonne": (-1.47, 43.49),
    "Cherbourg": (-1.62, 49.63),
    "Chamonix": (6.87, 45.92),
    "Corte": (9.15, 42.31),
}
OUTSIDE = {
    "London": (-0.13, 51.51),
    "Brussels": (4.35, 50.85),
    "Luxembourg": (6.13, 49.61),
    "Freiburg": (7.85, 48.00),
    "Lausanne": (6.63, 46.52),
    "Turin": (7.69, 45.07),
    "Bilbao": (-2.93, 43.26),
    "Barcelona": (2.17, 41.39),
    "Olbia": (9.50, 40.92),
}


def contains(place: tuple[float, float]) -> bool:
    (east,), (north,) = transform("EPSG:4326", "EPSG:2154", [place[0]], [place[1]])
    return any(Polygon(part).contains_point((east / 1000, north / 1000)) for part in (MAINLAND, CORSICA))


def test_towns_lie_on_their_side_of_the_border() -> None:
    assert [name for name, place in INSIDE.items() if not contains(place)] == []
    assert [name for name, place in OUTSIDE.items() if contains(place)] == []


@pytest.mark.parametrize(("outline", "square_kilometres"), [(MAINLAND, 535_285), (CORSICA, 8_680)])
def test_the_area_is_right(outline: np.ndarray, square_kilometres: float) -> None:
    x, y = outline.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(square_kilometres, rel=0.04)
