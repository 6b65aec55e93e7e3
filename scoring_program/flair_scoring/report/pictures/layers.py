"""What a row of pictures shows: the aerial image, the reference, the prediction, and where the two differ."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from flair_scoring.base.errors import DataError
from flair_scoring.nomenclature import Nomenclature
from flair_scoring.raster import RasterError, read_raster
from flair_scoring.report.html import Markup, picture

GAP = 255  # in reference and prediction: no patch lies here
RIGHT, WRONG, UNSCORED = "#e1e1e1", "#d62728", "#787878"
_WHITE = "#ffffff"
_BANDS = 5  # red, green, blue, near infrared, elevation
_CAPTIONS = ("aerial image", "reference", "prediction", "errors")


@dataclass(frozen=True)
class Layers:
    """Aerial image uint8 (H, W, 3); reference and prediction uint8 (H, W), class indices or GAP."""

    aerial: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray

    def reduce(self, step: int) -> Layers:
        """One pixel for each step x step pixels: of the image their mean, of the labels the middle one.

        `step` divides the height and the width.
        """
        height, width = (side // step for side in self.reference.shape)
        blocks = self.aerial.reshape(height, step, width, step, 3)
        middle = slice(step // 2, None, step)
        return Layers(
            blocks.mean(axis=(1, 3)).round().astype(np.uint8),
            self.reference[middle, middle],
            self.prediction[middle, middle],
        )


def read_layers(image: str, reference: str, prediction: str, nomenclature: Nomenclature) -> Layers:
    """Read the three files of a patch. DataError for a damaged image; the labels were read by scoring."""
    try:
        aerial = read_raster(image, bands=_BANDS)[:3].transpose(1, 2, 0)
    except RasterError as error:
        raise DataError(f"{image}: {error}") from None
    return Layers(aerial, nomenclature.index_of[read_raster(reference)], read_raster(prediction))


def render_row(layers: Layers, name: str, nomenclature: Nomenclature) -> Markup:
    """The four pictures beside each other; `name` says what they show, to readers who cannot see them."""
    colours = [*nomenclature.colours_with_other]
    errors = np.where(layers.reference == layers.prediction, 0, 1).astype(np.uint8)
    errors[layers.reference == nomenclature.other] = 2
    errors[layers.reference == GAP] = 3
    pictures = (
        (_encode_image(layers.aerial), "image/jpeg"),
        (_encode_labels(layers.reference, colours), "image/png"),
        (_encode_labels(layers.prediction, colours), "image/png"),
        (_encode_labels(errors, [RIGHT, WRONG, UNSCORED, _WHITE]), "image/png"),
    )
    figures = [picture(*one, caption) for one, caption in zip(pictures, _CAPTIONS, strict=True)]
    return Markup(f'<div class="row" role="group" aria-label="{name}">{"".join(figures)}</div>')


def _encode_image(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _encode_labels(labels: np.ndarray, colours: list[str]) -> bytes:
    """PNG with the colours of the indices; GAP is white."""
    image = Image.fromarray(np.minimum(labels, len(colours)).astype(np.uint8), "L")
    image.putpalette(b"".join(bytes.fromhex(colour.removeprefix("#")) for colour in [*colours, _WHITE]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
