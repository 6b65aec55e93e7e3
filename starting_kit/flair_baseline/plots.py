"""One patch with all that is known of it as a figure: image, height, labels, prediction, its year."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch
from matplotlib.patches import Rectangle

from flair_ingestion.dataset import CENTRE, SuperPatch, read_image, read_labels, read_superpatch
from flair_ingestion.dataset import Patch as DataPatch
from flair_scoring.nomenclature import FLAIR_12

HEIGHT_STEP = 0.2  # metres per unit of the elevation band
RED, GREEN, BLUE = 2, 1, 0  # places of B4, B3, B2 in a series
BRIGHTEST = 3000  # digital number that is drawn white
COVERED = 50  # per cent of probability from which snow or cloud is marked
DATES_PER_ROW = 10
WIDTH = 17  # of the figure, in inches: the size of its letters


@dataclass(frozen=True)
class Portrait:
    """What is drawn: aerial image uint8 (5, 512, 512), series, class indices uint8 (512, 512) or None."""

    title: str
    aerial: np.ndarray
    series: SuperPatch
    labels: np.ndarray | None
    prediction: np.ndarray | None


def portray(patch: DataPatch, superpatch_size: int = 40, prediction: np.ndarray | None = None) -> Portrait:
    """All that is known of a patch, read from the data set; prediction uint8 (512, 512), class indices."""
    facts = [patch.domain, patch.area, patch.metadata["date"], patch.metadata["camera"]]
    return Portrait(
        title=f"IMG_{patch.id}: " + ", ".join(str(fact) for fact in facts if fact),
        aerial=read_image(patch),
        series=read_superpatch(patch, superpatch_size),
        labels=FLAIR_12.index_of[read_labels(patch)] if patch.labels else None,
        prediction=prediction,
    )


def draw(portrait: Portrait, most_dates: int = 30, width: int = 1700) -> bytes:
    """A PNG, `width` pixels wide. Of a longer series `most_dates` are shown, evenly chosen."""
    count = len(portrait.series.dates)
    places = np.unique(np.linspace(0, count - 1, min(count, most_dates)).round().astype(int))
    rows = -(-len(places) // DATES_PER_ROW)
    figure = Figure(figsize=(WIDTH, 4.3 + 1.75 * rows), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.3, 1.75 * rows))
    above, below = halves
    figure.suptitle(portrait.title)
    _draw_patch(portrait, above.subplots(1, 5))
    shown = f"{len(places)} of {count}" if len(places) < count else str(count)
    below.suptitle(
        f"Sentinel-2, {shown} dates; the square is the patch, hatched: snow or cloud above {COVERED} %",
        fontsize="medium",
    )
    _draw_series(portrait.series, places, below.subplots(rows, DATES_PER_ROW, squeeze=False).ravel())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=width / WIDTH)
    return buffer.getvalue()


def _draw_patch(portrait: Portrait, axes: np.ndarray) -> None:
    red, green, blue, infrared, height = portrait.aerial
    axes[0].imshow(np.dstack([red, green, blue]))
    axes[0].set_title("red, green, blue")
    axes[1].imshow(np.dstack([infrared, red, green]))
    axes[1].set_title("near infrared, red, green")
    shown = axes[2].imshow(HEIGHT_STEP * height, cmap="viridis")
    scale = axes[2].inset_axes((0.1, -0.08, 0.8, 0.05))  # inside its place, so that all five are in line
    axes[2].figure.colorbar(shown, cax=scale, orientation="horizontal", label="m above the ground")
    axes[2].set_title("height")
    _draw_labels(axes[3], portrait.labels, "labels")
    _draw_labels(axes[4], portrait.prediction, "prediction")
    names, colours = FLAIR_12.classes_with_other, FLAIR_12.colours_with_other
    swatches = [Swatch(color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    axes[4].legend(handles=swatches, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize="small")
    for one in axes:
        one.set(xticks=[], yticks=[])


def _draw_labels(axis: Axes, labels: np.ndarray | None, title: str) -> None:
    axis.set_title(title if labels is not None else f"no {title}")
    if labels is None:
        axis.set_box_aspect(1)
        return
    colours = ListedColormap(FLAIR_12.colours_with_other)
    edges = np.arange(len(FLAIR_12.classes_with_other) + 1) - 0.5
    axis.imshow(labels, cmap=colours, norm=BoundaryNorm(edges, colours.N), interpolation="nearest")


def _draw_series(series: SuperPatch, places: np.ndarray, axes: np.ndarray) -> None:
    size = series.data.shape[-1]
    corner = (size - CENTRE) / 2 - 0.5
    for axis, place in zip(axes, places, strict=False):
        bands = series.data[place, [RED, GREEN, BLUE]].astype(np.float32) / BRIGHTEST
        axis.imshow(np.clip(bands, 0, 1).transpose(1, 2, 0))
        covered = series.masks[place].max(axis=0) >= COVERED
        if covered.any():
            axis.contourf(covered, levels=[0.5, 1.5], colors="none", hatches=["////"])
        axis.add_patch(Rectangle((corner, corner), CENTRE, CENTRE, fill=False, edgecolor="yellow"))
        axis.set_title(f"{np.datetime64(int(series.dates[place]), 'D')}", fontsize="small")
    for axis in axes:
        axis.axis("off")
