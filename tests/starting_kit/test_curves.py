"""curves.png can be read: whole epochs, the best one marked, lines that stand out."""

from __future__ import annotations

import colorsys
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flair_baseline.training.history import draw_curves
from flair_scoring.nomenclature import FLAIR_12


def make_rows(epochs: int, best: int = 1, **changes: float) -> list[dict[str, float]]:
    """Rows of a run in which every IoU grows; the epoch `best` has the highest mIoU."""
    rows = []
    for epoch in range(1, epochs + 1):
        ious = {key: (index + 1) / 13 * epoch / epochs for index, key in enumerate(FLAIR_12.keys)}
        losses = {"train_loss": 3 / epoch, "val_loss": 4 / epoch}
        miou = 0.9 if epoch == best else 0.5 * epoch / epochs
        rows.append({"epoch": epoch, **losses, "val_miou": miou, **ious, **changes})
    return rows


def draw(folder: Path, rows: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure that `draw_curves` saves."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_curves(folder / "curves.png", rows)
    (figure,) = saved
    return figure


def find_legends(figure: Figure) -> list[Any]:
    return [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]


def find_curves(axes: Axes) -> list[Line2D]:
    """The lines over all epochs; a mark at one epoch has a single x or the height of the axes."""
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def class_axes(figure: Figure) -> Axes:
    return max(figure.axes, key=lambda axes: len(axes.lines))


@pytest.mark.parametrize("epochs", [1, 2, 4, 7, 100])
def test_the_axis_has_whole_epochs_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    figure = draw(tmp_path, make_rows(epochs), monkeypatch)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)
        texts = [label.get_text() for label in axes.get_xticklabels()]
        assert all(text.isdigit() for text in texts if text)
        assert (low, high) == pytest.approx((1, epochs), abs=max(0.5, 0.06 * epochs))


def test_the_best_epoch_is_marked_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = draw(tmp_path, make_rows(8, best=5), monkeypatch)
    titles = [axes.get_title() + axes.get_title("left") for axes in figure.axes]
    assert len(titles) == 3
    assert all(titles)
    assert any("0.900" in title and "epoch 5" in title for title in titles)
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    boxes += [axes._left_title.get_window_extent() for axes in figure.axes]  # type: ignore[attr-defined]
    written = [box for box in boxes if box.width > 1]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(written, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in written)
    for axes in figure.axes:
        marks = [line for line in axes.lines if set(np.ravel(line.get_xdata())) == {5}]
        assert len(marks) == 1


def test_there_is_one_legend_with_the_classes_in_the_order_of_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (legend,) = find_legends(draw(tmp_path, make_rows(4, best=4, iou_water=math.nan), monkeypatch))
    texts = [text.get_text() for text in legend.get_texts()]
    names = [name for text in texts for name in FLAIR_12.classes if text.endswith(f"  {name}")]
    highest_first = [name for name in FLAIR_12.classes[::-1] if name != "water"]
    assert names == [*highest_first, "water"]
    assert "0.92  plowed land" in texts
    assert texts[-1].split() == ["–", "water"]


def contrast_with_white(colour: Any) -> float:
    """Ratio of the relative luminances, as WCAG 2 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def hue(colour: Any) -> float:
    return 360 * colorsys.rgb_to_hsv(*to_rgb(colour))[0]


def test_class_lines_stand_out_from_white_and_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = find_curves(class_axes(draw(tmp_path, make_rows(4), monkeypatch)))
    assert len(lines) == 12
    for line, colour in zip(lines, FLAIR_12.colours, strict=True):
        assert contrast_with_white(line.get_color()) > 2.999
        assert hue(line.get_color()) == pytest.approx(hue(colour), abs=2)
        if contrast_with_white(colour) >= 3:  # dark enough: FLAIR's own
            assert to_rgb(line.get_color()) == pytest.approx(to_rgb(colour))
    alike = [
        (one.get_label(), other.get_label())
        for one, other in itertools.combinations(lines, 2)
        if np.abs(np.subtract(to_rgb(one.get_color()), to_rgb(other.get_color()))).max() < 0.35
        and one.get_linestyle() == other.get_linestyle()
    ]
    assert alike == []


def test_a_single_epoch_shows_a_point_for_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = draw(tmp_path, make_rows(1), monkeypatch)
    assert all(line.get_marker() not in ("None", "", None) for line in find_curves(class_axes(figure)))


def test_a_run_without_a_scored_class_has_no_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = draw(tmp_path, make_rows(2, val_miou=math.nan), monkeypatch)
    assert not any("best" in axes.get_title("left") for axes in figure.axes)
