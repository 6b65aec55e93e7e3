"""The course of a training run: one row of numbers per epoch, as a table and as curves."""

from __future__ import annotations

import csv
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
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if math.isnan(value) else value for key, value in row.items()})
    write_file(path, table.getvalue())


def draw_curves(path: Path, rows: Sequence[Row]) -> None:
    """Draw losses, validation mIoU and validation IoU of each class over the epochs into a PNG."""
    from matplotlib.figure import Figure  # pyplot would choose a window system for the whole process

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(17, 4.5), layout="constrained")
    losses, scores, classes = figure.subplots(1, 3)
    for key in ("train_loss", "val_loss"):
        losses.plot(epochs, [row[key] for row in rows], marker=".", label=key)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    losses.legend()
    scores.plot(epochs, [row["val_miou"] for row in rows], marker=".", color="tab:green")
    scores.set(xlabel="epoch", ylabel="validation mIoU", ylim=(0, 1))
    for key, name, colour in zip(FLAIR_12.keys, FLAIR_12.classes, FLAIR_12.colours, strict=True):
        classes.plot(epochs, [row[key] for row in rows], marker=".", color=colour, label=name)
    classes.set(xlabel="epoch", ylabel="validation IoU", ylim=(0, 1))
    classes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


def best_row(rows: Sequence[Row]) -> Row:
    """The first of the rows with the highest validation mIoU, which NaN (no scored class) is not."""
    return max(rows, key=lambda row: -1.0 if math.isnan(row["val_miou"]) else row["val_miou"])


def epochs_since_lowest_loss(rows: Sequence[Row]) -> int:
    """Epochs since the validation loss was lowest (the EP. of Table IV is that epoch); 0 at the start."""
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
