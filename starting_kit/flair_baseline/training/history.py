"""The history of a training run: one row of numbers per epoch, as a table and as curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_scoring.base.files import write_file
from flair_scoring.nomenclature import FLAIR_12

if TYPE_CHECKING:  # matplotlib is imported when something is drawn: it takes a while
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Row = dict[str, float]
TABLE, CURVES = "log.csv", "curves.png"  # their names in RUN
MOST_DOTS = 25  # with more epochs a line has no dots
NO_VALUE = " \u2007–\u2007"  # as wide as 0.12: two spaces of a digit's width
# Of the classes whose hues are alike, each has a style of its own; all others are solid lines
LINE_STYLES = {
    "impervious surface": "--",
    "vineyard": ":",
    "deciduous": "--",
    "herbaceous vegetation": ":",
    "brushwood": "--",
    "agricultural land": ":",
    "plowed land": "-.",
}


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV with a header; NaN, the IoU of a class that does not occur, stays empty."""
    import pandas as pd  # not before it is needed: it takes a while to import

    write_file(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def draw_curves(path: Path, rows: Sequence[Row]) -> None:
    """Draw losses, validation mIoU and validation IoU of each class over the epochs into a PNG.

    The epoch with the best mIoU is marked, and the legend has the classes' IoU in that epoch.
    """
    from matplotlib.figure import Figure  # pyplot would choose a window system for the process

    best = best_row(rows)
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    losses, mious, classes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    for axes in (losses, mious, classes):
        _set_epochs(axes, rows)
        if not math.isnan(best["val_miou"]):
            axes.axvline(best["epoch"], color="0.55", linestyle=":", linewidth=1.2, zorder=0)
    _draw_losses(losses, rows)
    _draw_mious(mious, rows, best)
    _draw_classes(classes, rows, best)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


def _set_epochs(axes: Axes, rows: Sequence[Row]) -> None:
    """Give the axes whole epochs, and a light frame."""
    from matplotlib.ticker import MaxNLocator

    first, last = rows[0]["epoch"], rows[-1]["epoch"]
    margin = min(0.04 * (last - first), 0.9) or 0.5  # below 1, so that there is no epoch 0
    axes.set(xlabel="epoch", xlim=(first - margin, last + margin))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)


def _draw_losses(axes: Axes, rows: Sequence[Row]) -> None:
    kinds = [("training", "train_loss", "--"), ("validation", "val_loss", "-")]
    kinds.sort(key=lambda kind: rows[-1][kind[1]])
    for (name, key, style), side in zip(kinds, ("top", "bottom"), strict=True):  # the lower line first
        _draw_line(axes, rows, key, color="black", linestyle=style)
        end = (rows[-1]["epoch"], rows[-1][key])
        if math.isfinite(rows[-1][key]):
            axes.annotate(name, end, xytext=(7, 0), textcoords="offset points", va=side)
    axes.set(ylim=(0, None))
    axes.set_title("Loss", loc="left", fontsize="medium")


def _draw_mious(axes: Axes, rows: Sequence[Row], best: Row) -> None:
    title = "Validation mIoU"
    _draw_line(axes, rows, "val_miou", color="black")
    if not math.isnan(best["val_miou"]):
        axes.scatter([best["epoch"]], [best["val_miou"]], s=42, color="black", zorder=3)
        title += f", best: {best['val_miou']:.3f} in epoch {best['epoch']:.0f}"
    axes.set(ylim=(0, 1))
    axes.set_title(title, loc="left", fontsize="medium")


def _draw_classes(axes: Axes, rows: Sequence[Row], best: Row) -> None:
    lines = []
    for key, name, colour in zip(FLAIR_12.keys, FLAIR_12.classes, FLAIR_12.colours, strict=True):
        value = NO_VALUE if math.isnan(best[key]) else f"{best[key]:.2f}"
        look = {"color": darken(colour), "linestyle": LINE_STYLES.get(name, "-")}
        line = _draw_line(axes, rows, key, label=f"{value}  {name}", **look)
        lines.append((-1.0 if math.isnan(best[key]) else best[key], line))
    axes.set(ylim=(0, 1))
    axes.set_title("Validation IoU of each class", loc="left", fontsize="medium")
    lines.sort(key=lambda entry: entry[0], reverse=True)
    axes.legend(
        handles=[line for _, line in lines],
        title=f"IoU in epoch {best['epoch']:.0f}",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        handlelength=2.8,
        alignment="left",
    )


def _draw_line(axes: Axes, rows: Sequence[Row], key: str, **options: Any) -> Line2D:
    marker = "." if len(rows) <= MOST_DOTS else ""
    epochs, values = [row["epoch"] for row in rows], [row[key] for row in rows]
    (line,) = axes.plot(epochs, values, marker=marker, linewidth=1.6, **options)
    return line


def darken(colour: str, contrast: float = 3.0) -> tuple[float, float, float]:
    """The colour, or a darker one of its hue, whose contrast with white is at least `contrast`.

    Args:
        colour: Such as "#fff30d".
        contrast: Ratio of the luminances of white and of the colour as in WCAG 2, 1 to 21.

    Returns:
        Red, green and blue, 0 to 1.
    """
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    linear *= min(1, (1.05 / contrast - 0.05) / max(luminance, 1e-9))
    parts = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = parts.tolist()
    return red, green, blue


def best_row(rows: Sequence[Row]) -> Row:
    """The row with the highest validation mIoU, the first of equals; NaN (no scored class) is the lowest."""
    return max(rows, key=lambda row: -1.0 if math.isnan(row["val_miou"]) else row["val_miou"])


def epochs_since_lowest_loss(rows: Sequence[Row]) -> int:
    """Epochs since the lowest validation loss, whose epoch is EP. in Table IV; 0 before the first epoch."""
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
