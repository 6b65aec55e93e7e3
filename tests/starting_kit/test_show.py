"""show.py draws a patch from any split, and names what it cannot find."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from flair_baseline.plots import PatchPlot, draw_png
from flair_ingestion.dataset import SuperPatch
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import write_labels
from programs import run_here


def show(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_here("show", *arguments, cwd=cwd)


GROUND = (200, 100, 100)  # of the aerial image of `make_plot`
FIELD = (1000, 1500, 500)  # red, green, blue digital numbers of its series
RIGHT, WRONG, NOT_SCORED = (225, 225, 225), (214, 39, 40), (120, 120, 120)


def make_plot(
    labels: np.ndarray | int | None,
    prediction: np.ndarray | int | None,
    dates: int | None = 12,
    **changes: Any,
) -> PatchPlot:
    """A plot of plain colours; a number in place of labels fills the patch."""
    aerial = np.full((5, 512, 512), 100, np.uint8)
    aerial[0] = 200
    series = None
    if dates:
        data = np.zeros((dates, 10, 40, 40), np.uint16)
        data[:, [2, 1, 0]] = np.array(FIELD, np.uint16)[:, None, None]
        masks = np.zeros((dates, 2, 40, 40), np.uint8)
        series = SuperPatch(data, masks, np.arange(18628, 18628 + dates, dtype=np.int32))
    drawn = [
        np.full((512, 512), one, np.uint8) if isinstance(one, int) else one for one in (labels, prediction)
    ]
    return replace(PatchPlot("IMG_077413: D015_2020, Z1_UU", aerial, series, *drawn), **changes)


def count_colours(picture: bytes) -> Counter[tuple[int, ...]]:
    pixels = np.array(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return Counter(dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True)))


def colours_of(picture: bytes) -> set[tuple[int, ...]]:
    """Colours of at least 2,000 pixels."""
    return {colour for colour, count in count_colours(picture).items() if count > 2000}


def draw_figure(monkeypatch: pytest.MonkeyPatch, plot: PatchPlot, width: int = 1000) -> Figure:
    """The figure that `draw_png` saves."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figure.set_dpi(options["dpi"])
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_png(plot, width=width)
    monkeypatch.undo()
    (figure,) = saved
    return figure


def panel_titles(figure: Figure) -> list[str]:
    titles = [axes.get_title() or axes.get_title("left") for axes in figure.axes if axes.images]
    return [title for title in titles if not title.startswith("20")]


def test_labels_have_the_official_colours_and_nothing_else_is_made_up() -> None:
    drawn = colours_of(draw_png(make_plot(4, 8)))
    water, vineyard = (tuple(bytes.fromhex(FLAIR_12.colours[index][1:])) for index in (4, 8))
    assert {GROUND, (100, 200, 100), water, vineyard} <= drawn
    without = colours_of(draw_png(make_plot(4, None)))
    assert water in without
    assert vineyard not in without


def test_errors_are_red_where_labels_and_prediction_differ_on_scored_ground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.full((512, 512), 4, np.uint8)
    labels[:, :128] = FLAIR_12.other
    prediction = np.full((512, 512), 4, np.uint8)
    prediction[:, 416:] = 8
    plot = make_plot(labels, prediction)
    counts = count_colours(draw_png(plot))
    whole = counts[RIGHT] + counts[WRONG] + counts[NOT_SCORED]
    assert counts[WRONG] / whole == pytest.approx(96 / 512, abs=0.02)
    assert counts[NOT_SCORED] / whole == pytest.approx(128 / 512, abs=0.02)
    assert panel_titles(draw_figure(monkeypatch, plot))[-1] == "errors: 25.0% of scored pixels"
    nothing_scored = panel_titles(draw_figure(monkeypatch, make_plot(FLAIR_12.other, 4)))
    assert nothing_scored[-1] == "errors"


@pytest.mark.parametrize(
    ("labels", "prediction", "more"),
    [
        (None, None, []),
        (4, None, ["labels"]),
        (None, 4, ["prediction"]),
        (4, 4, ["labels", "prediction", "errors: 0.0% of scored pixels"]),
    ],
)
@pytest.mark.parametrize("dates", [None, 1, 40])
def test_every_panel_shows_something_and_no_text_is_cut_or_covered(
    monkeypatch: pytest.MonkeyPatch,
    labels: int | None,
    prediction: int | None,
    more: list[str],
    dates: int | None,
) -> None:
    figure = draw_figure(monkeypatch, make_plot(labels, prediction, dates))
    assert panel_titles(figure)[3:] == more
    assert all(axes.images for axes in figure.axes if axes.axison and axes.get_visible())
    assert len(figure.axes) == 3 + len(more) + min(dates or 0, 30)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = {text: text.get_window_extent() for text in texts}
    width, height = figure.bbox.size
    for text, box in boxes.items():
        assert text.get_fontsize() * figure.dpi / 72 >= 10, text  # pixels, of 1000 across
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, text
    for (one, box), (other, box_2) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(box_2), (one, other)


def test_a_legend_has_the_classes_that_occur_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for labels, prediction, entries in (
        (4, None, ["water"]),
        (4, 8, ["water", "vineyard", "error"]),
        (FLAIR_12.other, 8, ["vineyard", "other", "error", "not scored"]),
    ):
        figure = draw_figure(monkeypatch, make_plot(labels, prediction))
        (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
        assert [text.get_text() for text in legend.get_texts()] == entries


def test_marks_of_clouds_leave_the_image_visible() -> None:
    clear = make_plot(None, None, dates=10)
    assert clear.series
    masks = clear.series.masks.copy()
    masks[:5, 1] = 100  # half of the dates are covered
    masks[5:8, 0, :20] = 60  # and some by snow, above
    masked = replace(clear, series=replace(clear.series, masks=masks))
    field = (85, 127, 42)  # 255 * FIELD / 3000
    before, after = (count_colours(draw_png(plot)) for plot in (clear, masked))
    assert before[field] > 50_000
    assert 0.85 * before[field] < after[field] < 0.99 * before[field]


def test_names_of_cameras_are_no_formulas_and_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = r"$\frac{ a_b$" + 20 * "CAMERA"
    figure = draw_figure(monkeypatch, make_plot(None, None, title=f"IMG_077413: {camera}"))
    (title,) = [text for text in figure.texts if "IMG" in text.get_text()]
    assert r"$\frac{ a_b$CAMERA" in title.get_text()
    assert title.get_window_extent().x1 < figure.bbox.x1


def test_letters_that_the_font_lacks_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    draw_png(make_plot(None, None, title="IMG_077413: 相机 🌳"), width=500)
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


def test_a_palette_makes_the_file_smaller_and_changes_no_colour_of_a_class() -> None:
    rng = np.random.default_rng(0)
    labels = np.full((512, 512), 4, np.uint8)
    labels[0, : FLAIR_12.other] = np.arange(FLAIR_12.other)  # in the legend, hardly in the panel
    plot = make_plot(labels, 4, aerial=rng.integers(0, 256, (5, 512, 512), dtype=np.uint8))
    whole, small = draw_png(plot, width=1000), draw_png(plot, width=1000, most_colours=256)
    assert len(small) < 0.5 * len(whole)
    colours = count_colours(small)
    assert len(colours) <= 256
    assert all(colours[tuple(bytes.fromhex(colour[1:]))] > 50 for colour in FLAIR_12.colours)
    assert colours[WRONG] > 0
    assert max(colours, key=colours.__getitem__) == (255, 255, 255)


@pytest.mark.parametrize("name", ["000001", "IMG_000007.tif", "077413"])
def test_draws_patches_of_every_split(flair_tree: Path, tmp_path: Path, name: str) -> None:
    write_labels(tmp_path / f"PRED_{name[-10:].removesuffix('.tif')}.tif", np.zeros((512, 512), np.uint8))
    options = ["--predictions", tmp_path, "--dates", 3, "--width", 1200]
    done = show(name, "--data", flair_tree, *options, "-o", tmp_path / "patch.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "patch.png") as image:
        assert image.width == 1200


def test_test_patches_need_no_labels(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    shutil.rmtree(data / "flair_2_labels_test")
    assert show("077413", "--data", data, "-o", tmp_path / "patch.png").returncode == 0
    next(data.rglob("SEN2_sp_D006_2020*products.txt")).unlink()
    done = show("000001", "--data", data, "-o", tmp_path / "other.png")
    assert done.returncode == 2
    assert "SEN2_sp_D006_2020" in done.stderr
    assert not (tmp_path / "other.png").exists()


def test_aerial_images_are_enough(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree / "flair_2_aerial_test", data / "flair_2_aerial_test")
    done = show("077413", "--data", data, "-o", tmp_path / "patch.png")
    assert done.returncode == 0, done.stderr
    assert "no unpacked Sentinel-2 archive" in done.stderr
    whole = show("077413", "--data", flair_tree, "-o", tmp_path / "whole.png")
    assert "note" not in whole.stderr
    with Image.open(tmp_path / "patch.png") as patch, Image.open(tmp_path / "whole.png") as other:
        assert patch.height < other.height


def test_a_prediction_of_the_patch_must_be_one(flair_tree: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_labels(tmp_path / name / "PRED_077413.tif", np.zeros((512, 512), np.uint8))
    done = show("077413", "--data", flair_tree, "--predictions", tmp_path, "-o", tmp_path / "patch.png")
    assert done.returncode == 2
    assert "several predictions of a patch; name the folder that holds one of each (1 problem)" in done.stderr
    assert f"077413: {tmp_path}/first/PRED_077413.tif, {tmp_path}/second" in done.stderr
    assert not (tmp_path / "patch.png").exists()


def test_what_the_patch_lacks_is_told_first(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    masks = sorted((data / "flair_2_labels_test").rglob("MSK_*.tif"))
    for path in masks:
        path.unlink()
    done = show(masks[-1].stem[4:], "--data", data, "-o", tmp_path / "patch.png")
    assert done.returncode == 2
    assert masks[-1].name in done.stderr.splitlines()[1]


def test_another_format_is_refused(flair_tree: Path, tmp_path: Path) -> None:
    done = show("077413", "--data", flair_tree, "-o", tmp_path / "patch.jpg")
    assert done.returncode == 2
    assert "patch.jpg: expected a name that ends in .png" in done.stderr
    assert not (tmp_path / "patch.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["999999"], "no patch 999999 in any split"),
        (["patch"], "expected a 6-digit id"),
        (["077413", "--superpatch", "7"], "expected an even number from 10 to 110"),
        (["077413", "--dates", "0"], "expected 1 or more"),
        (["077413", "--width", "20"], "expected 500 to 10000"),
        (["077413", "--colours", "1"], "expected 32 to 256"),
        (["077413", "--predictions", "EMPTY"], "no PRED_077413.tif there"),
        (["077413", "--predictions", "NOWHERE"], "no such folder; expected one with PRED_077413.tif"),
    ],
)
def test_what_cannot_be_drawn_is_explained(
    flair_tree: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    done = show(*arguments, "--data", flair_tree, "-o", tmp_path / "patch.png", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "patch.png").exists()
