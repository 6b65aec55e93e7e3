"""The pictures of a result's page: the best, the median and the worst patches, an area, and the legend."""

from __future__ import annotations

from pathlib import Path

from flair_scoring.base.errors import UsageError, list_problems
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import Nomenclature
from flair_scoring.pairing import IMAGE, find_patches
from flair_scoring.report.html import paragraph
from flair_scoring.report.pictures.area import render_area
from flair_scoring.report.pictures.layers import RIGHT, UNSCORED, WRONG, read_layers, render_row
from flair_scoring.report.pictures.shares import choose_patches

_REDUCED = 2  # pixels of a patch, along each side, for one of its picture


def render_pictures(evaluation: Evaluation, data: Path, count: int = 2) -> list[str]:
    """HTML of the `count` best, median and worst patches, and of the area with the most patches that touch.

    Patches are sorted by their share of right pixels; only pixels whose reference is a scored class count.
    `evaluation` must know the paths of its patches, `pairs`. The aerial images IMG_<id>.tif may lie anywhere
    below the folder `data`. Raises UsageError that lists the images that are missing, or patches with several
    images, and DataError for a damaged one.
    """
    chosen = choose_patches(evaluation, count)
    images = find_patches(data, evaluation.ids, IMAGE)
    ids = [evaluation.ids[index] for found in chosen.values() for index, _ in found]
    if missing := [f"IMG_{id}.tif" for id in ids if id not in images]:
        title = f"{data}: aerial images are missing; name the folder with the images of the scored patches"
        raise UsageError(list_problems(title, missing))
    about = "The best, the median and the worst patches, by the share of right pixels among the scored ones."
    parts = ["<h2>Pictures</h2>", paragraph(about, "soft"), _legend(evaluation.nomenclature)]
    parts += render_area(evaluation, images)
    for kind, found in chosen.items():
        parts.append(f"<h3>{kind}</h3>")
        for index, share in found:
            id = evaluation.ids[index]
            where = " ".join(filter(None, (evaluation.domains[index], evaluation.areas[index])))
            parts.append(paragraph(f"{id} {where}: {share:.1%} right", "soft"))
            layers = read_layers(images[id], *evaluation.pairs[index], evaluation.nomenclature)
            parts.append(render_row(layers.reduce(_REDUCED), f"patch {id}", evaluation.nomenclature))
    return parts


def _legend(nomenclature: Nomenclature) -> str:
    """The colours of all pictures of the page."""
    pairs = [*zip(nomenclature.classes, nomenclature.colours, strict=True)]
    pairs.append(("other (not scored)", nomenclature.colours_with_other[-1]))
    errors = (("right", RIGHT), ("wrong", WRONG), ("other, not scored", UNSCORED))
    lines = ""
    for title, items in (("Labels", pairs), ("Errors", errors)):
        named = "".join(f'<span><i style="background:{colour}"></i>{name}</span>' for name, colour in items)
        lines += f'<p class="legend"><b>{title}</b>{named}</p>'
    return lines
