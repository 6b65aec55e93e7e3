"""The history of a training run: one row of numbers per epoch, as a table and as curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from flair_scoring.base.files import write_file
from flair_scoring.nomenclature import FLAIR_12

Row = dict[str, float]
TABLE, CURVES = "log.csv", "curves.png"  # their names in RUN


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV with a header; NaN, the IoU of a class that does not occur, stays empty."""
    import pandas as pd  # not before it is needed: it takes a while to import

    write_file(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def draw_curves(path: Path, rows: Sequence[Row]) -> None:
    """Draw losses, validation mIoU and validation IoU of each class over the epochs into a PNG."""
    from matplotlib.figure import Figure  # pyplot would choose a window system for the process

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(17, 4.5), layout="constrained")
    losses, mious, classes = figure.subplots(1, 3)
    for key in ("train_loss", "val_loss"):
        losses.plot(epochs, [row[key] for row in rows], marker=".", label=key)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    losses.legend()
    mious.plot(epochs, [row["val_miou"] for row in rows], marker=".", color="tab:green")
    mious.set(xlabel="epoch", ylabel="validation mIoU", ylim=(0, 1))
    for key, name, colour in zip(FLAIR_12.keys, FLAIR_12.classes, FLAIR_12.colours, strict=True):
        classes.plot(epochs, [row[key] for row in rows], marker=".", color=colour, label=name)
    classes.set(xlabel="epoch", ylabel="validation IoU", ylim=(0, 1))
    classes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


def best_row(rows: Sequence[Row]) -> Row:
    """The row with the highest validation mIoU, the first of equals; NaN (no scored class) is the lowest."""
    return max(rows, key=lambda row: -1.0 if math.isnan(row["val_miou"]) else row["val_miou"])


def epochs_since_lowest_loss(rows: Sequence[Row]) -> int:
    """Epochs since the lowest validation loss, whose epoch is EP. in Table IV; 0 before the first epoch."""
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
