"""Pictures of the best and the worst patches: aerial image, reference, prediction, errors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from flair_scoring.base.errors import DataError, UsageError, list_problems
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import Nomenclature
from flair_scoring.pairing import IMAGE, find_rasters, list_files
from flair_scoring.raster import RasterError, read_raster
from flair_scoring.report.html import Markup, paragraph, picture

_BANDS = 5  # red, green, blue, near infrared, elevation
_SIDE = 256  # pixels of a picture
_RIGHT, _WRONG, _OUTSIDE = (225, 225, 225), (214, 39, 40), (120, 120, 120)


def render_patches(evaluation: Evaluation, data: Path, count: int = 3) -> list[str]:
    """HTML of the `count` best and the `count` worst patches, by their share of right pixels.

    Only pixels whose reference is a scored class count. `evaluation` must know the paths of its patches,
    `pairs`. The aerial images IMG_<id>.tif may lie anywhere below the folder `data`. Raises UsageError that
    lists missing images, and DataError for a damaged one.
    """
    ids = _extreme_ids(evaluation, count)
    images = find_rasters(list_files(data), IMAGE).paths
    if missing := [f"IMG_{id}.tif" for id in ids if id not in images]:
        raise UsageError(list_problems(f"{data}: aerial images are missing", missing))
    parts = ["<h2>Patches</h2>", _legend(evaluation.nomenclature)]
    for rank, id in enumerate(ids):
        index = evaluation.ids.index(id)
        where = " ".join(filter(None, (evaluation.domains[index], evaluation.areas[index])))
        share = _share_right(evaluation.matrices[index : index + 1])[0]
        kind = "best" if rank < len(ids) / 2 else "worst"
        parts.append(paragraph(f"{kind}: {id} {where}, {share:.1%} of the scored pixels are right"))
        parts += _draw(images[id], *evaluation.pairs[index], evaluation.nomenclature)
    return parts


def _extreme_ids(evaluation: Evaluation, count: int) -> list[str]:
    """Ids of the best patches, then of the worst ones; patches without scored pixels are left out."""
    shares = _share_right(evaluation.matrices)
    order = [index for index in np.argsort(-shares, kind="stable") if not np.isnan(shares[index])]
    count = min(count, len(order) // 2) or len(order)
    chosen = order[:count] + (order[-count:] if len(order) > 1 else [])
    return [evaluation.ids[index] for index in chosen]


def _share_right(matrices: np.ndarray) -> np.ndarray:
    """Share of right pixels among those of scored classes, float64 (N,); NaN for a patch without any."""
    scored = matrices[:, :-1].astype(np.int64)
    right = np.diagonal(scored, axis1=1, axis2=2).sum(axis=1)
    ground = scored.sum(axis=(1, 2))
    return np.divide(right, ground, out=np.full(len(ground), np.nan), where=ground > 0)


def _draw(
    image_path: str, reference_path: str, prediction_path: str, nomenclature: Nomenclature
) -> list[Markup]:
    try:
        aerial = read_raster(image_path, bands=_BANDS)[:3].transpose(1, 2, 0)
    except RasterError as error:
        raise DataError(f"{image_path}: {error}") from None
    reference = nomenclature.index_of[read_raster(reference_path)]
    prediction = read_raster(prediction_path)
    palette = _palette(nomenclature)
    errors = np.where((reference == prediction)[..., None], _RIGHT, _WRONG)
    errors[reference == nomenclature.other] = _OUTSIDE
    return [
        _encode(aerial, "aerial image", "JPEG"),
        _encode(palette[reference], "reference", "PNG"),
        _encode(palette[prediction], "prediction", "PNG"),
        _encode(errors, "errors in red, other in grey", "PNG"),
    ]


def _encode(pixels: np.ndarray, caption: str, kind: str) -> Markup:
    sampling = Image.Resampling.BILINEAR if kind == "JPEG" else Image.Resampling.NEAREST
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).resize((_SIDE, _SIDE), sampling)
    buffer = io.BytesIO()
    if kind == "PNG":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    image.save(buffer, kind, **({"quality": 80} if kind == "JPEG" else {"optimize": True}))
    return picture(buffer.getvalue(), f"image/{kind.lower()}", caption)


def _palette(nomenclature: Nomenclature) -> np.ndarray:
    """Official colours by class index, *other* black, uint8 (K + 1, 3)."""
    colours = [bytes.fromhex(colour.removeprefix("#")) for colour in nomenclature.colours_with_other]
    return np.array([list(colour) for colour in colours], np.uint8)


def _legend(nomenclature: Nomenclature) -> str:
    pairs = zip(nomenclature.classes_with_other, nomenclature.colours_with_other, strict=True)
    items = "".join(f'<span><i style="background:{colour}"></i> {name}</span>' for name, colour in pairs)
    return f'<p class="legend">{items}</p>'
