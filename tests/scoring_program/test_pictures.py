"""--pictures: the right patches, in the official colours, the map of an area, and never on the platform."""

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
import rasterio.merge
from PIL import Image
from sample_patches import PLACES, Patches

from flair_scoring import Evaluation, evaluate
from flair_scoring.base.errors import UsageError
from flair_scoring.nomenclature import FLAIR_12, FLAIR_VALUES
from flair_scoring.raster import write_labels
from flair_scoring.report.pictures.area import render_area
from flair_scoring.report.pictures.section import render_pictures
from flair_scoring.report.pictures.shares import choose_patches

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
    page = "".join(render_pictures(found, images, count=1))
    headings = [f">{kind}</h3>" for kind in ("Best", "Median", "Worst")]
    places = [page.index(heading) for heading in headings]
    assert places == sorted(places)
    assert page.index(f"{ids[0]} {PLACES[ids[0]].replace('/', ' ')}: 100.0% right") < places[1]
    assert page.index(f"{ids[3]} {PLACES[ids[3]].replace('/', ' ')}: 0.0% right") > places[2]
    shown = decode(page)
    assert len(shown) == 12
    for id, (aerial, reference, prediction, errors) in zip(
        (ids[0], ids[3]), (shown[:4], shown[8:]), strict=True
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
    assert len(decode(page)) == 12  # of four patches the best, one in the middle, the worst
    assert len(page) < 1_500_000
    (images / "flair_2_aerial_test/IMG_085221.tif").unlink()
    done = run(patches.predictions, patches.references, *options)
    assert done.returncode == 2
    assert "images of the scored patches (1 problem):\n  - IMG_085221.tif" in done.stderr
    assert not (tmp_path / "out/scores.json").exists()


def test_participants_are_never_shown_the_labels(patches: Patches, images: Path, tmp_path: Path) -> None:
    options = ["--output", tmp_path, "--pictures", images, "--platform"]
    done = run(patches.predictions, patches.references, *options)
    assert done.returncode == 2
    assert "--platform refuses it" in done.stderr


def test_a_folder_without_images_is_named(patches: Patches, tmp_path: Path) -> None:
    found = evaluate(patches.predictions, patches.references)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UsageError, match=r"empty: aerial images are missing; name the folder with .* \(3 problems\)"
    ):
        render_pictures(found, tmp_path / "empty")


def test_a_folder_with_several_images_of_a_patch_is_refused(patches: Patches, tmp_path: Path) -> None:
    found = evaluate(patches.predictions, patches.references)
    for name in ("first", "second"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "IMG_077413.tif").touch()
    with pytest.raises(UsageError, match=r"several images of a patch; .*\n  - 077413: .*/first/IMG_077413"):
        render_pictures(found, tmp_path / "images")


@pytest.mark.parametrize("count", range(1, 12))
def test_no_patch_is_shown_twice(count: int) -> None:
    matrices = np.zeros((count, 13, 13), np.uint32)
    matrices[:, 0, 0], matrices[:, 0, 1] = np.arange(count), 100 - np.arange(count)
    ids = tuple(f"{number:06d}" for number in range(count))
    evaluation = Evaluation(FLAIR_12, ids, ("",) * count, ("",) * count, matrices)
    chosen = choose_patches(evaluation, 2)
    indices = [index for found in chosen.values() for index, _ in found]
    assert len(indices) == len(set(indices)) == min(count, 3 * min(2, max(count // 3, 1)))
    assert indices[0] == count - 1
    assert [*chosen] == ["Best", "Median", "Worst"] if count > 2 else ["Best", "Worst"][:count]
    if count > 1:
        assert chosen["Worst"][-1] == (0, 0.0)
    if count > 2:
        middle = [index for index, _ in chosen["Median"]]
        assert abs(np.mean(middle) - (count - 1) / 2) <= 0.5


def test_patches_of_an_area_that_touch_are_put_together(tmp_path: Path) -> None:
    """Three patches in an L and one apart from them: rasterio puts the three together in the same way."""
    corners = {"000001": (0, 0), "000002": (512, 0), "000003": (0, 512), "000004": (2048, 0)}
    for name in ("img", "msk", "predictions"):
        (tmp_path / "D015_2020/Z1_UU" / name).mkdir(parents=True)
    folder = tmp_path / "D015_2020/Z1_UU"
    rng = np.random.default_rng(0)
    for id, (column, row) in corners.items():
        place = rasterio.Affine(0.2, 0, 900_000 + 0.2 * column, 0, -0.2, 6_500_000 - 0.2 * row)
        profile = {"width": 512, "height": 512, "dtype": "uint8", "transform": place, "crs": "EPSG:2154"}
        blocks = rng.integers(1, 13, (8, 8), dtype=np.uint8)
        mask = np.kron(blocks, np.ones((64, 64), np.uint8))
        with rasterio.open(folder / f"img/IMG_{id}.tif", "w", count=5, **profile) as file:
            file.write(np.broadcast_to(20 * mask, (5, 512, 512)))
        with rasterio.open(folder / f"msk/MSK_{id}.tif", "w", count=1, **profile) as file:
            file.write(mask, 1)
        write_labels(folder / f"predictions/PRED_{id}.tif", np.where(mask == 3, 0, mask - 1).astype(np.uint8))
    found = evaluate(folder / "predictions", tmp_path / "D015_2020/Z1_UU/msk")
    images = {id: str(folder / f"img/IMG_{id}.tif") for id in corners}
    page = "".join(render_area(found, images))
    assert "Area D015_2020 Z1_UU" in page
    assert "3 patches that touch, white where none of them lies; 205 x 205 m, north up" in page
    whole, _ = rasterio.merge.merge([folder / f"msk/MSK_{id}.tif" for id in ("000001", "000002", "000003")])
    aerial, reference, prediction, errors = decode(page)
    assert reference.shape == (512, 512, 3)
    expected = whole[0, 1::2, 1::2]  # one pixel for 2 x 2
    colours = np.array([(255, 255, 255), *(list(bytes.fromhex(c[1:])) for c in FLAIR_12.colours)], np.uint8)
    np.testing.assert_array_equal(reference, colours[expected])
    np.testing.assert_array_equal(prediction, colours[np.where(expected == 3, 1, expected)])
    kinds = np.array([(225, 225, 225), (214, 39, 40), (255, 255, 255)], np.uint8)
    np.testing.assert_array_equal(errors, kinds[np.where(expected == 0, 2, expected == 3)])
    inner = (slice(4, None, 32), slice(4, None, 32))  # far from edges, where JPEG is exact
    shown = np.where(expected == 0, 255, 20 * expected.astype(int))
    assert np.abs(aerial[..., 0].astype(int) - shown)[inner].max() <= 4
    assert render_area(found, {"000001": images["000001"], "000004": images["000004"]}) == []
