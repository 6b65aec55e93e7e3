"""The course of a training run: one row of numbers per epoch, as a table and as curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from flair_scoring.files import write_file

Row = dict[str, float]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV with a header; NaN, the IoU of a class that does not occur, stays empty."""
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if math.isnan(value) else value for key, value in row.items()})
    write_file(path, table.getvalue())


def draw_curves(path: Path, rows: Sequence[Row]) -> None:
    """Draw losses and validation mIoU over the epochs into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = [row["epoch"] for row in rows]
    figure, (losses, scores) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for key in ("train_loss", "val_loss"):
        losses.plot(epochs, [row[key] for row in rows], marker=".", label=key)
    losses.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    losses.legend()
    scores.plot(epochs, [row["val_miou"] for row in rows], marker=".", color="tab:green")
    scores.set(xlabel="epoch", ylabel="validation mIoU", ylim=(0, 1))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    pyplot.close(figure)
    write_file(path, picture.getvalue())
