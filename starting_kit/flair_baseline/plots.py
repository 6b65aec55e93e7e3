"""A plot of one patch: aerial image, false colours, height, labels, prediction, errors, a year of Sentinel-2.

What is absent has no panel. Positions are in inches from the upper left corner of the picture.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FormatStrFormatter, MaxNLocator
from PIL import Image

from flair_ingestion.dataset import CENTRE, SuperPatch, read_image, read_labels, read_superpatch
from flair_ingestion.dataset import Patch as DataPatch
from flair_scoring.nomenclature import FLAIR_12

HEIGHT = "height above the ground"
HEIGHT_STEP = 0.2  # metres per unit of the elevation band
RED, GREEN, BLUE = 2, 1, 0  # indices of B4, B3, B2 in a series
BRIGHTEST = 3000  # digital number that is drawn white
COVERED = 50  # per cent; snow and clouds of this probability or more are outlined
DATES_PER_ROW = 10
RIGHT, WRONG, OTHER = (225, 225, 225), (214, 39, 40), (120, 120, 120)  # in the panel of errors, as in reports
PATCH, COVER = "yellow", "deepskyblue"  # the lines on the series
LONGEST_TITLE = 80  # letters, of any width

WIDTH = 10  # of the picture, which decides how large letters are in it
EDGE, GAP = 0.12, 0.12  # around the picture, and between panels
TITLE = 0.27  # the height of a line of text
CAPTION = 0.34  # the height of two lines of small text
LEGEND, SCALE = 1.85, 0.7  # the widths of the legend of classes and of the scale of heights
SCALE_BELOW = 0.3  # the height of the scale where it lies below its panel
LARGEST_DATE = 1.3  # the side of the picture of a date
# Makes a line visible on any ground
SHADE: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="black", alpha=0.5)]


@dataclass(frozen=True)
class PatchPlot:
    """What is drawn of a patch.

    `aerial` is uint8 (5, 512, 512). `labels` and `prediction` are class indices uint8 (512, 512). What is
    None is left out.
    """

    title: str
    aerial: np.ndarray
    series: SuperPatch | None
    labels: np.ndarray | None
    prediction: np.ndarray | None


def prepare_plot(
    patch: DataPatch, superpatch_size: int = 40, prediction: np.ndarray | None = None
) -> PatchPlot:
    """Read what is drawn of a patch from the data set.

    Args:
        patch: A patch from `index_patches`; without its series or labels, if it was indexed without.
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
        series=read_superpatch(patch, superpatch_size) if patch.centroid else None,
        labels=FLAIR_12.index_of[read_labels(patch)] if patch.labels else None,
        prediction=prediction,
    )


def draw_png(
    plot: PatchPlot, most_dates: int = 30, width: int = 1700, most_colours: int | None = None
) -> bytes:
    """Draw the plot as a PNG, `width` pixels wide.

    If the series has more than `most_dates` dates, that many are drawn, spread evenly over the series.
    `most_colours`, 32 to 256, makes a smaller file with a palette.
    """
    panels = _make_panels(plot)
    columns = 3 if len(panels) in (3, 6) else len(panels)
    has_classes = plot.labels is not None or plot.prediction is not None
    side = (WIDTH - 2 * EDGE - (LEGEND if has_classes else SCALE) - (columns - 1) * GAP) / columns
    rows = len(panels) // columns
    below = 0 if columns == 3 else SCALE_BELOW
    end = EDGE + TITLE + rows * (TITLE + side) + (rows - 1) * GAP + below
    count = len(plot.series.dates) if plot.series else 0
    indices = np.unique(np.linspace(0, count - 1, min(count, most_dates)).round().astype(int))
    strip = _Strip(len(indices), end + 2 * GAP)
    figure = Figure(figsize=(WIDTH, (strip.end if count else end) + EDGE))
    title = plot.title if len(plot.title) <= LONGEST_TITLE else f"{plot.title[: LONGEST_TITLE - 1]}…"
    _write(figure, EDGE, EDGE, title, fontsize=11, fontweight="bold")
    for index, (title, image, options) in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = EDGE + column * (side + GAP), EDGE + 2 * TITLE + row * (side + GAP + TITLE)
        axes = _add_axes(figure, left, top, side)
        shown = axes.imshow(image, **options)
        axes.set_title(title, fontsize=10, loc="left", pad=4)
        if title == HEIGHT:
            _add_scale(axes, shown, beside=columns == 3)
        if has_classes and index == len(panels) - 1:
            _add_legend(axes, plot)
    if plot.series:
        told = f"{len(indices)} of {count} dates" if len(indices) < count else f"{count} dates"
        told += ". Yellow: the patch. Blue: here snow or clouds are likely"
        _write(figure, EDGE, strip.top, f"Sentinel-2, {told}", fontsize=10)
        for position, index in enumerate(indices):
            _draw_date(_add_axes(figure, *strip.place(position), strip.side), plot.series, index)
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # the name of a camera may have letters that no font has
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=width / WIDTH)
    return _reduce_colours(buffer, most_colours) if most_colours else buffer.getvalue()


def _reduce_colours(picture: io.BytesIO, most: int) -> bytes:
    """A PNG with a palette of at most `most` colours; those that mean something stay exactly as they are."""
    whole = Image.open(picture).convert("RGB")
    lines = [to_hex(PATCH), to_hex(COVER)]
    exact = [bytes.fromhex(colour[1:]) for colour in (*FLAIR_12.colours_with_other, *lines)]
    exact += [bytes(colour) for colour in (RIGHT, WRONG, OTHER, (255, 255, 255))]
    near = whole.quantize(most - len(exact))
    indices = np.asarray(near) + np.uint8(len(exact))
    pixels = np.asarray(whole)
    for index, colour in enumerate(exact):
        indices[(pixels == tuple(colour)).all(axis=-1)] = index
    reduced = Image.fromarray(indices).convert("P")
    reduced.putpalette(b"".join(exact) + bytes(near.getpalette() or []))
    buffer = io.BytesIO()
    reduced.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


class _Strip:
    """Where the pictures of `count` dates lie, in rows of equal length below `top`."""

    def __init__(self, count: int, top: float) -> None:
        self.top = top
        rows = -(-count // DATES_PER_ROW)
        self.columns = -(-count // rows) if rows else 1
        free = WIDTH - 2 * EDGE - (self.columns - 1) * GAP
        self.side = min(free / self.columns, LARGEST_DATE)
        self.height = CAPTION + self.side + GAP  # of a row
        self.end = top + TITLE + rows * self.height - GAP

    def place(self, index: int) -> tuple[float, float]:
        row, column = divmod(index, self.columns)
        left = EDGE + column * (self.side + GAP)
        return left, self.top + TITLE + row * self.height + CAPTION


def _make_panels(plot: PatchPlot) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Title, image, and options of `imshow` of each panel."""
    red, green, blue, infrared, height = plot.aerial
    heights = HEIGHT_STEP * height
    panels: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("red, green, blue", np.dstack([red, green, blue]), {}),
        ("near infrared, red, green", np.dstack([infrared, red, green]), {}),
        (HEIGHT, heights, {"cmap": "viridis", "vmin": 0, "vmax": max(heights.max(), 1)}),
    ]
    whole_pixels = {"interpolation": "nearest"}  # colours of two classes do not mix
    colours = np.array([tuple(bytes.fromhex(one[1:])) for one in FLAIR_12.colours_with_other], np.uint8)
    for title, labels in (("labels", plot.labels), ("prediction", plot.prediction)):
        if labels is not None:
            panels.append((title, colours[labels], whole_pixels))
    if plot.labels is not None and plot.prediction is not None:
        wrong, scored = plot.labels != plot.prediction, plot.labels != FLAIR_12.other
        errors = np.where(wrong[..., None], WRONG, RIGHT).astype(np.uint8)
        errors[~scored] = OTHER
        share = f": {wrong[scored].mean():.1%} of scored pixels" if scored.any() else ""
        panels.append((f"errors{share}", errors, whole_pixels))
    return panels


def _add_axes(figure: Figure, left: float, top: float, side: float) -> Axes:
    """A square without ticks."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def _write(figure: Figure, left: float, top: float, text: str, **options: Any) -> None:
    """A line of text as it stands; a $ begins no formula."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, va="top", parse_math=False, **options)


def _add_scale(axes: Axes, shown: Any, beside: bool) -> None:
    """The scale of heights, beside the panel or below it."""
    place = (1.03, 0.1, 0.04, 0.8) if beside else (0.1, -0.06, 0.8, 0.04)
    scale = axes.inset_axes(place)
    direction = "vertical" if beside else "horizontal"
    bar = axes.figure.colorbar(shown, cax=scale, orientation=direction)
    bar.outline.set_visible(False)
    bar.locator, bar.formatter = MaxNLocator(5, steps=[1, 2, 5, 10]), FormatStrFormatter("%g m")
    scale.tick_params(labelsize=9, length=2)


def _add_legend(axes: Axes, plot: PatchPlot) -> None:
    """The classes that occur, and the colours of errors, beside the last panel."""
    drawn = [labels for labels in (plot.labels, plot.prediction) if labels is not None]
    names, colours = FLAIR_12.classes_with_other, FLAIR_12.colours_with_other
    entries = [(names[index], colours[index]) for index in np.unique(np.stack(drawn))]
    if len(drawn) == 2:
        entries.append(("error", f"#{bytes(WRONG).hex()}"))
        if FLAIR_12.other in drawn[0]:  # the labels
            entries.append(("not scored", f"#{bytes(OTHER).hex()}"))
    swatches = [Swatch(color=colour, label=name) for name, colour in entries]
    axes.legend(
        handles=swatches,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.035),
        frameon=False,
        fontsize=9,
        handlelength=1.1,
        labelspacing=0.3,
    )


def _draw_date(axes: Axes, series: SuperPatch, index: int) -> None:
    size = series.data.shape[-1]
    bands = series.data[index, [RED, GREEN, BLUE]].astype(np.float32) / BRIGHTEST
    axes.imshow(np.clip(bands, 0, 1).transpose(1, 2, 0))
    covered = series.masks[index].max(axis=0) >= COVERED
    if covered.any():
        # A frame of free ground closes the outline where it meets the edge
        framed, at = np.pad(covered, 1).astype(float), np.arange(-1, size + 1)
        at = at.clip(-0.4, size - 0.6)
        axes.contour(at, at, framed, levels=[0.5], colors=COVER, linewidths=1.3)
    corner = (size - CENTRE) / 2 - 0.5
    square = Rectangle((corner, corner), CENTRE, CENTRE, fill=False, edgecolor=PATCH, linewidth=1.2)
    square.set_path_effects(SHADE)
    axes.add_patch(square)
    day, share = np.datetime64(int(series.dates[index]), "D"), covered.mean()
    told = "clear" if not covered.any() else "<1% covered" if share < 0.01 else f"{share:.0%} covered"
    axes.set_title(f"{day}\n{told}", fontsize=7.5, loc="left", pad=3)
