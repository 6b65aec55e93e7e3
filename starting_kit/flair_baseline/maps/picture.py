"""Draws a map as a picture for people: coordinates, and the classes with their shares."""

from __future__ import annotations

import io
import warnings

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch

from flair_baseline.maps.geotiff import NO_DATA
from flair_scoring.maps.mosaic import Grid
from flair_scoring.nomenclature import Nomenclature

LONGEST = 2000  # pixels of the picture's map, along its longer side
_EMPTY = (235, 235, 235)
_INCHES = 10
_MAP, _LABEL = 6.5, 2  # inches of the width of the map beside its legend, and of the length of a label
_NO_DATA = Swatch(facecolor=f"#{bytes(_EMPTY).hex()}", edgecolor="grey", label="no data")


def draw_labels(labels: np.ndarray, grid: Grid, title: str, nomenclature: Nomenclature) -> bytes:
    """PNG of class indices uint8 (height, width), NO_DATA where there are none."""
    colours = np.full((256, 3), _EMPTY, np.uint8)
    for index, colour in enumerate(nomenclature.colours_with_other):
        colours[index] = tuple(bytes.fromhex(colour[1:]))
    counts = np.bincount(labels.ravel(), minlength=256)
    total = max(counts[:NO_DATA].sum(), 1)
    names = zip(nomenclature.classes_with_other, nomenclature.colours_with_other, strict=True)
    swatches = [
        Swatch(facecolor=colour, edgecolor="grey", label=f"{name}, {counts[index] / total:.1%}")
        for index, (name, colour) in enumerate(names)
        if counts[index]
    ]
    if counts[NO_DATA]:
        swatches.append(_NO_DATA)
    return _draw(colours[_reduce(labels)], grid, title, swatches)


def draw_image(pixels: np.ndarray, covered: np.ndarray, grid: Grid, title: str) -> bytes:
    """PNG of red, green, blue uint8 (height, width, 3), grey where `covered` is False."""
    shown = np.where(_reduce(covered)[..., None], _reduce(pixels), np.array(_EMPTY, np.uint8))
    return _draw(shown, grid, title, [] if covered.all() else [_NO_DATA])


def _reduce(raster: np.ndarray) -> np.ndarray:
    """Every n-th pixel, so that the longer side has at most LONGEST."""
    step = -(-max(raster.shape[:2]) // LONGEST)
    return raster[step // 2 :: step, step // 2 :: step]


def _draw(shown: np.ndarray, grid: Grid, title: str, swatches: list[Swatch]) -> bytes:
    height, width = grid.height * grid.pixel, grid.width * grid.pixel  # metres
    share = max(height / width, 0.3)
    figure = Figure(figsize=(_INCHES, _INCHES * min(share, 2)), layout="constrained")
    axes = figure.subplots()
    edges = (grid.west, grid.west + width, grid.north - height, grid.north)
    axes.imshow(shown, extent=edges, interpolation="nearest")
    # Without this, numbers and labels of a long and narrow map would lie on each other
    scale = min(_MAP / width, (figure.get_figheight() - 1) / height)
    axes.locator_params("x", nbins=_count_numbers(width * scale / 0.9))
    axes.locator_params("y", nbins=_count_numbers(height * scale / 0.3))
    if height * scale > _LABEL:
        axes.set(xlabel="east, m (Lambert-93)", ylabel="north, m (Lambert-93)")
    else:
        axes.set(xlabel="east and north, m (Lambert-93)")
    axes.set_title(title, parse_math=False)  # a $ in the name of a folder begins no formula
    axes.ticklabel_format(useOffset=False, style="plain")
    if swatches:
        axes.legend(handles=swatches, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    picture = io.BytesIO()
    with warnings.catch_warnings():  # the name of a folder may have letters that no font has
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
    return picture.getvalue()


def _count_numbers(room: float) -> int:
    """How many numbers an axis shows that has room for `room` of them."""
    return int(min(max(room, 1), 5))
