"""The patches of an area put together: the area with the most patches that touch each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from flair_scoring.base.errors import DataError
from flair_scoring.evaluation import Evaluation
from flair_scoring.maps.georeference import Place, read_place
from flair_scoring.maps.mosaic import Grid, fill, find_touching, lay_out
from flair_scoring.raster import PATCH_SIZE
from flair_scoring.report.html import Markup, paragraph
from flair_scoring.report.pictures.layers import GAP, Layers, read_layers, render_row
from flair_scoring.report.pictures.shares import share_right

_LONGEST = 640  # pixels of a picture, along its longer side


def render_area(evaluation: Evaluation, images: Mapping[str, str]) -> list[Markup]:
    """HTML of the map of an area; empty if no two patches of an area touch.

    `images` are the paths of aerial images by id. Images without a georeference lie nowhere. `evaluation`
    must know the paths of its patches, `pairs`. Raises DataError for a damaged image.
    """
    places = _find_largest(evaluation, images)
    if not places:
        return []
    indices = [evaluation.ids.index(id) for id in places]
    domain, area = evaluation.domains[indices[0]], evaluation.areas[indices[0]]
    grid = lay_out(places, f"{domain}/{area}")
    share = share_right(evaluation.matrices[indices].sum(axis=0, dtype=np.int64)[None])[0]
    right = "" if np.isnan(share) else f", {share:.1%} of the scored pixels right"
    size = f"{grid.width * grid.pixel:.0f} x {grid.height * grid.pixel:.0f} m"
    layers = _put_together(evaluation, images, places, grid)
    gaps = ", white where none of them lies" if (layers.reference == GAP).any() else ""
    about = f"{len(places)} patches that touch{gaps}; {size}, north up{right}"
    return [
        Markup(f"<h3>Area {domain} {area}</h3>"),
        Markup(paragraph(about, "soft")),
        render_row(layers, f"area {domain} {area}", evaluation.nomenclature),
    ]


def _find_largest(evaluation: Evaluation, images: Mapping[str, str]) -> dict[str, Place]:
    """The places, by id, of the largest group of patches of an area that touch; empty if no two touch."""
    areas: dict[tuple[str, str], list[str]] = {}
    for id, domain, area in zip(evaluation.ids, evaluation.domains, evaluation.areas, strict=True):
        if area and id in images:
            areas.setdefault((domain, area), []).append(id)
    best: dict[str, Place] = {}
    for ids in sorted(areas.values(), key=len, reverse=True):
        if len(ids) <= max(len(best), 1):
            break  # this area and all that follow have too few patches
        try:
            places = {id: read_place(images[id]) for id in ids}
            group = find_touching(places)
            lay_out(group, "")
        except DataError:  # images without a georeference, or with a wrong one: they cannot be put together
            continue
        if len(group) > max(len(best), 1):
            best = group
    return best


def _put_together(
    evaluation: Evaluation, images: Mapping[str, str], places: Mapping[str, Place], grid: Grid
) -> Layers:
    step = 1
    while max(grid.height, grid.width) > _LONGEST * step and step < PATCH_SIZE:
        step *= 2
    small = replace(
        grid,
        height=-(-grid.height // step),
        width=-(-grid.width // step),
        pixel=grid.pixel * step,
        corners={id: (row // step, column // step) for id, (row, column) in grid.corners.items()},
    )
    parts = {
        id: read_layers(
            images[id], *evaluation.pairs[evaluation.ids.index(id)], evaluation.nomenclature
        ).reduce(step)
        for id in places
    }
    return Layers(
        fill(small, {id: part.aerial for id, part in parts.items()}, 255),
        fill(small, {id: part.reference for id, part in parts.items()}, GAP),
        fill(small, {id: part.prediction for id, part in parts.items()}, GAP),
    )
