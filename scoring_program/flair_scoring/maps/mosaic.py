"""Patches of an area put together to one raster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.maps.georeference import Place
from flair_scoring.raster import PATCH_SIZE

MOST_PIXELS, LONGEST_SIDE = 2**30, 2**16  # of a map: 43 km2 and 13 km at 0.2 m; an area has 1 km2 on average
SAME = 1e-6  # metres by which the pixels of two patches may differ in size


@dataclass(frozen=True)
class Grid:
    """A raster that holds all patches of an area.

    `west` and `north` are its edges and `pixel` the side of its pixels, in metres. `height` and `width` are
    in pixels. `corners` gives row and column of the first pixel of each patch, by id; `misfit` is the largest
    distance, in pixels, by which a patch was moved to fit the grid.
    """

    west: float
    north: float
    pixel: float
    height: int
    width: int
    corners: dict[str, tuple[int, int]]
    misfit: float


def lay_out(places: Mapping[str, Place], area: str) -> Grid:
    """The grid of patches (id -> place, at least one); `area` names them in messages.

    Raises DataError when pixels differ in size, or when the patches are too far apart for one map.
    """
    first = next(iter(places.values()))
    if odd := [id for id, place in places.items() if abs(place.pixel - first.pixel) > SAME]:
        sizes = [f"IMG_{id}.tif: {places[id].pixel} m, others {first.pixel} m" for id in odd]
        raise DataError(list_problems(f"{area}: the pixels differ in size", sizes))
    west = min(place.west for place in places.values())
    north = max(place.north for place in places.values())
    exact = {
        id: ((north - place.north) / first.pixel, (place.west - west) / first.pixel)
        for id, place in places.items()
    }
    corners = {id: (round(row), round(column)) for id, (row, column) in exact.items()}
    height, width = (max(corner[axis] for corner in corners.values()) + PATCH_SIZE for axis in (0, 1))
    if height * width > MOST_PIXELS or max(height, width) > LONGEST_SIDE:
        raise DataError(
            f"{area}: its images lie up to {max(height, width) * first.pixel / 1000:.0f} km apart, so their "
            f"georeference is probably wrong; a map has at most {MOST_PIXELS} pixels"
        )
    misfit = max(abs(one - round(one)) for pair in exact.values() for one in pair)
    return Grid(west, north, first.pixel, height, width, corners, misfit)


def find_touching(places: Mapping[str, Place]) -> dict[str, Place]:
    """The largest group of patches that touch, side to side, by id; the first one of several as large.

    `places` are those of one area, id -> place, at least one. A patch that touches no other one is a group of
    its own.
    """
    first = next(iter(places.values()))
    at: dict[tuple[int, int], str] = {}
    for id, place in places.items():
        east, south = (place.west - first.west) / first.pixel, (first.north - place.north) / first.pixel
        at[round(east), round(south)] = id
    groups: list[list[str]] = []
    waiting = dict(at)
    while waiting:
        corner = next(iter(waiting))
        found, group = [(corner, waiting.pop(corner))], []
        while found:
            (east, south), id = found.pop()
            group.append(id)
            for step in (-PATCH_SIZE, PATCH_SIZE):
                for beside in ((east + step, south), (east, south + step)):
                    if beside in waiting:
                        found.append((beside, waiting.pop(beside)))
        groups.append(group)
    largest = next(set(group) for group in groups if len(group) == max(map(len, groups)))
    return {id: place for id, place in places.items() if id in largest}


def fill(grid: Grid, patches: Mapping[str, np.ndarray], empty: int) -> np.ndarray:
    """The patches, uint8 (side, side) or (side, side, bands), in one raster; `empty` where no patch lies.

    `side` is 512 pixels, or fewer in a grid of larger pixels. Where patches overlap, the one with the higher
    id lies on top.
    """
    side, _, *bands = next(iter(patches.values())).shape
    raster = np.full((grid.height, grid.width, *bands), empty, np.uint8)
    for id in sorted(patches):
        row, column = grid.corners[id]
        raster[row : row + side, column : column + side] = patches[id]
    return raster


def find_covered(grid: Grid, ids: Mapping[str, object]) -> np.ndarray:
    """How many of these patches cover each pixel, uint8 (height, width)."""
    counts = np.zeros((grid.height, grid.width), np.uint8)
    for id in ids:
        row, column = grid.corners[id]
        counts[row : row + PATCH_SIZE, column : column + PATCH_SIZE] += 1
    return counts
