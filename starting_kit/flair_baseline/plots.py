"""A plot of one patch: aerial image, false colours, height, labels, prediction, a year of Sentinel-2."""

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
RED, GREEN, BLUE = 2, 1, 0  # indices of B4, B3, B2 in a series
BRIGHTEST = 3000  # digital number that is drawn white
COVERED = 50  # per cent; snow and clouds of this probability or more are hatched
DATES_PER_ROW = 10
WIDTH = 17  # inches; it decides how large letters are in the figure


@dataclass(frozen=True)
class PatchPlot:
    """What is drawn of a patch.

    `aerial` is uint8 (5, 512, 512). `labels` and `prediction` are class indices uint8 (512, 512), or None.
    """

    title: str
    aerial: np.ndarray
    series: SuperPatch
    labels: np.ndarray | None
    prediction: np.ndarray | None


def prepare_plot(
    patch: DataPatch, superpatch_size: int = 40, prediction: np.ndarray | None = None
) -> PatchPlot:
    """Read what is drawn of a patch from the data set.

    Args:
        patch: A patch from `index_patches`.
        superpatch_size: Side of the Sentinel-2 window in pixels of 10 m, even, 10 to 110.
        prediction: Class indices, uint8 (512, 512), to be drawn beside the labels.

    Returns:
        What `draw_png` draws.

    Raises:
        DataError: A file of the patch cannot be read.
    """
    facts = [patch.domain, patch.area, patch.metadata["date"], patch.metadata["camera"]]
    return PatchPlot(
        title=f"IMG_{patch.id}: " + ", ".join(str(fact) for fact in facts if fact),
        aerial=read_image(patch),
        series=read_superpatch(patch, superpatch_size),
        labels=FLAIR_12.index_of[read_labels(patch)] if patch.labels else None,
        prediction=prediction,
    )


def draw_png(plot: PatchPlot, most_dates: int = 30, width: int = 1700) -> bytes:
    """Draw the plot as a PNG, `width` pixels wide.

    If the series has more than `most_dates` dates, that many are drawn, spread evenly over the series.
    """
    count = len(plot.series.dates)
    indices = np.unique(np.linspace(0, count - 1, min(count, most_dates)).round().astype(int))
    rows = -(-len(indices) // DATES_PER_ROW)
    figure = Figure(figsize=(WIDTH, 4.3 + 1.75 * rows), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.3, 1.75 * rows))
    above, below = halves
    figure.suptitle(plot.title)
    _draw_patch(plot, above.subplots(1, 5))
    shown = f"{len(indices)} of {count}" if len(indices) < count else str(count)
    below.suptitle(
        f"Sentinel-2, {shown} dates; the square is the patch, hatched: snow or cloud above {COVERED} %",
        fontsize="medium",
    )
    _draw_series(plot.series, indices, below.subplots(rows, DATES_PER_ROW, squeeze=False).ravel())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=width / WIDTH)
    return buffer.getvalue()


def _draw_patch(plot: PatchPlot, axes: np.ndarray) -> None:
    red, green, blue, infrared, height = plot.aerial
    axes[0].imshow(np.dstack([red, green, blue]))
    axes[0].set_title("red, green, blue")
    axes[1].imshow(np.dstack([infrared, red, green]))
    axes[1].set_title("near infrared, red, green")
    shown = axes[2].imshow(HEIGHT_STEP * height, cmap="viridis")
    # An inset keeps the panel as high as the other four
    scale = axes[2].inset_axes((0.1, -0.08, 0.8, 0.05))
    axes[2].figure.colorbar(shown, cax=scale, orientation="horizontal", label="m above the ground")
    axes[2].set_title("height")
    _draw_labels(axes[3], plot.labels, "labels")
    _draw_labels(axes[4], plot.prediction, "prediction")
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


def _draw_series(series: SuperPatch, indices: np.ndarray, axes: np.ndarray) -> None:
    size = series.data.shape[-1]
    corner = (size - CENTRE) / 2 - 0.5
    for axis, index in zip(axes, indices, strict=False):
        bands = series.data[index, [RED, GREEN, BLUE]].astype(np.float32) / BRIGHTEST
        axis.imshow(np.clip(bands, 0, 1).transpose(1, 2, 0))
        covered = series.masks[index].max(axis=0) >= COVERED
        if covered.any():
            axis.contourf(covered, levels=[0.5, 1.5], colors="none", hatches=["////"])
        axis.add_patch(Rectangle((corner, corner), CENTRE, CENTRE, fill=False, edgecolor="yellow"))
        axis.set_title(f"{np.datetime64(int(series.dates[index]), 'D')}", fontsize="small")
    for axis in axes:
        axis.axis("off")
