"""show.py draws a patch from any split, and names what it cannot find."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flair_baseline.plots import PatchPlot, draw_png
from flair_ingestion.dataset import SuperPatch
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import write_labels
from programs import run_here


def show(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_here("show", *arguments, cwd=cwd)


def colours_of(picture: bytes) -> set[tuple[int, ...]]:
    """Colours of at least 2,000 pixels."""
    pixels = np.array(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(colour) for colour in found[counts > 2000].tolist()}


def test_labels_have_the_official_colours_and_nothing_else_is_made_up() -> None:
    rng = np.random.default_rng(0)
    series = SuperPatch(
        rng.integers(0, 3000, (40, 10, 40, 40), dtype=np.uint16),
        np.zeros((40, 2, 40, 40), np.uint8),
        np.arange(18628, 18668, dtype=np.int32),
    )
    aerial = np.full((5, 512, 512), 100, np.uint8)
    aerial[0] = 200
    labels, prediction = (np.full((512, 512), index, np.uint8) for index in (4, 8))
    drawn = colours_of(draw_png(PatchPlot("test", aerial, series, labels, prediction)))
    water, vineyard = (tuple(bytes.fromhex(FLAIR_12.colours[index][1:])) for index in (4, 8))
    assert {(200, 100, 100), (100, 200, 100), water, vineyard} <= drawn
    without = colours_of(draw_png(PatchPlot("test", aerial, series, labels, None)))
    assert water in without
    assert vineyard not in without


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["999999"], "no patch 999999 in any split"),
        (["patch"], "expected a 6-digit id"),
        (["077413", "--superpatch", "7"], "expected an even number from 10 to 110"),
        (["077413", "--dates", "0"], "expected 1 or more"),
        (["077413", "--width", "20"], "expected 500 to 10000"),
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
