"""--pictures: the right patches, in the official colours, and never on the platform."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from sample_patches import PLACES, Patches

from flair_scoring import evaluate
from flair_scoring.base.errors import UsageError
from flair_scoring.nomenclature import FLAIR_VALUES
from flair_scoring.raster import write_labels
from flair_scoring.report.pictures import render_patches

SCORE = Path(__file__).resolve().parents[2] / "scoring_program" / "score.py"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Aerial images whose red says which patch it is."""
    folder = tmp_path / "flair_2_aerial_test"
    folder.mkdir()
    for index, id in enumerate(sorted(PLACES)):
        pixels = np.zeros((5, 512, 512), np.uint8)
        pixels[0] = 60 * index
        path = folder / f"IMG_{id}.tif"
        profile = {"count": 5, "width": 512, "height": 512, "dtype": "uint8"}
        with rasterio.open(path, "w", transform=rasterio.Affine(0.2, 0, 0, 0, -0.2, 0), **profile) as file:
            file.write(pixels)
    return tmp_path


def decode(page: str) -> list[np.ndarray]:
    """The images of a page, as RGB (256, 256, 3)."""
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_best_and_worst_are_shown_in_the_official_colours(patches: Patches, images: Path) -> None:
    ids = sorted(PLACES)
    for index, id in enumerate(ids):  # the first one is all right, the last one all wrong
        labels = np.minimum(patches.masks[id] - 1, 12)
        wrong = np.random.default_rng(index).random(labels.shape) < index / 3
        patches.labels[id] = np.where(wrong, (labels + 1) % 12, labels).astype(np.uint8)
        write_labels(patches.prediction(id), patches.labels[id])
    found = evaluate(patches.predictions, patches.references)
    page = "".join(render_patches(found, images, count=1))
    assert page.index(f"best: {ids[0]} {PLACES[ids[0]].replace('/', ' ')}, 100.0%") < page.index(
        f"worst: {ids[3]} {PLACES[ids[3]].replace('/', ' ')}, 0.0%"
    )
    shown = decode(page)
    assert len(shown) == 8
    for id, (aerial, reference, prediction, errors) in zip(
        (ids[0], ids[3]), (shown[:4], shown[4:]), strict=True
    ):
        assert abs(int(aerial[..., 0].mean()) - 60 * ids.index(id)) <= 2
        mask = patches.masks[id][8::16, 8::16]  # blocks of 16 pixels: the middle of each
        colours = {value: FLAIR_VALUES[value][1] if value <= 12 else "#000000" for value in range(1, 20)}
        expected = [[list(bytes.fromhex(colours[int(value)][1:])) for value in row] for row in mask]
        np.testing.assert_array_equal(reference[4::8, 4::8], expected)
        scored = (mask <= 12).ravel()
        agree = (reference == prediction).all(axis=-1)[4::8, 4::8].ravel()
        red = (errors == (214, 39, 40)).all(axis=-1)[4::8, 4::8].ravel()
        assert (agree[scored].all(), red[scored].any()) == ((True, False) if id == ids[0] else (False, True))
        assert not red[~scored].any()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, SCORE, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_command_puts_them_into_the_report(patches: Patches, images: Path, tmp_path: Path) -> None:
    options = ["--output", tmp_path / "out", "--pictures", images]
    done = run(patches.predictions, patches.references, *options)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/detailed_results.html").read_text()
    assert len(decode(page)) == 16  # the two best and the two worst of four
    assert len(page) < 1_500_000
    (images / "flair_2_aerial_test/IMG_077413.tif").unlink()
    done = run(patches.predictions, patches.references, *options)
    assert done.returncode == 2
    assert "aerial images are missing (1 problem):\n  - IMG_077413.tif" in done.stderr
    assert not (tmp_path / "out/scores.json").exists()


def test_participants_are_never_shown_the_labels(patches: Patches, images: Path, tmp_path: Path) -> None:
    options = ["--output", tmp_path, "--pictures", images, "--platform"]
    done = run(patches.predictions, patches.references, *options)
    assert done.returncode == 2
    assert "--platform refuses it" in done.stderr


def test_a_folder_without_images_is_named(patches: Patches, tmp_path: Path) -> None:
    found = evaluate(patches.predictions, patches.references)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: aerial images are missing \(4 problems\)"):
        render_patches(found, tmp_path / "empty")
