"""Maps of an area, read back by rasterio: at the right place, with the right classes and colours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.merge import merge

from flair_files import AREA, area_folder, draw_image, draw_labels, write_raster
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import write_labels
from programs import run_here

DOMAIN = "D015_2020"
NAME = f"{DOMAIN}/{AREA}"
WEST, NORTH, STEP = 659049.6, 6440059.2, 102.4
PLACES = {"077413": (0, 0), "077414": (0, 1), "077415": (2, 1)}  # row and column of patches


def lambert(row: float, column: float, pixel: float = 0.2) -> rasterio.Affine:
    return rasterio.Affine(pixel, 0, WEST + column * STEP, 0, -pixel, NORTH - row * STEP)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An area of three patches: two that touch, one apart from them."""
    rng = np.random.default_rng(1)
    for id, (row, column) in PLACES.items():
        options = {"transform": lambert(row, column), "crs": "EPSG:2154"}
        images, labels = (
            area_folder(tmp_path / "data", kind, "test", DOMAIN) for kind in ("aerial", "labels")
        )
        write_raster(images / f"IMG_{id}.tif", draw_image(rng), **options)
        write_raster(labels / f"MSK_{id}.tif", draw_labels(rng), **options)
    return tmp_path / "data"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    folder = tmp_path / "result" / "predictions"
    folder.mkdir(parents=True)
    for id in PLACES:
        write_labels(folder / f"PRED_{id}.tif", rng.integers(0, 13, (512, 512), np.uint8))
    return folder.parent


def image_of(data: Path, id: str) -> Path:
    return area_folder(data, "aerial", "test", DOMAIN) / f"IMG_{id}.tif"


def draw(data: Path, tmp_path: Path, *what: object, area: str = NAME) -> subprocess.CompletedProcess[str]:
    return run_here("map_area", *what, "--data", data, "--area", area, "-o", tmp_path / "map.tif")


def refusal(done: subprocess.CompletedProcess[str], tmp_path: Path) -> str:
    """The message of a command that has failed and left nothing."""
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert not list(tmp_path.glob("map*"))
    return done.stderr


def merged(paths: list[Path], nodata: int) -> tuple[np.ndarray, rasterio.Affine]:
    """What rasterio makes of georeferenced files."""
    return merge([str(path) for path in paths], nodata=nodata)


def test_predictions_lie_where_rasterio_puts_them(data: Path, predictions: Path, tmp_path: Path) -> None:
    done = draw(data, tmp_path, predictions)
    assert done.returncode == 0, done.stderr
    assert "note: 50.0% of the map is no patch of the data set" in done.stderr
    placed = []
    for id, (row, column) in PLACES.items():
        placed.append(tmp_path / f"placed_{id}.tif")
        with rasterio.open(predictions / "predictions" / f"PRED_{id}.tif") as file:
            write_raster(placed[-1], file.read(1), transform=lambert(row, column), crs="EPSG:2154")
    expected, transform = merged(placed, 255)
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read(), expected)
        assert file.crs.to_epsg() == 2154
        assert file.transform.almost_equals(transform)
        assert file.bounds == pytest.approx((WEST, NORTH - 3 * STEP, WEST + 2 * STEP, NORTH))
        assert file.nodata == 255
        assert file.colorinterp == (ColorInterp.palette,)
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        colours = ["#{:02x}{:02x}{:02x}".format(*file.colormap(1)[index][:3]) for index in range(13)]
    assert colours == list(FLAIR_12.colours_with_other)
    with Image.open(tmp_path / "map.png") as picture:
        pixels = np.array(picture.convert("RGB"))
    for colour in FLAIR_12.colours:
        assert (pixels == list(bytes.fromhex(colour[1:]))).all(axis=-1).sum() > 500


def test_labels_are_class_indices(data: Path, tmp_path: Path) -> None:
    done = draw(data, tmp_path, "--labels")
    assert done.returncode == 0, done.stderr
    files = [area_folder(data, "labels", "test", DOMAIN) / f"MSK_{id}.tif" for id in PLACES]
    values, _ = merged(files, 0)
    with rasterio.open(tmp_path / "map.tif") as file:
        found = file.read()
    np.testing.assert_array_equal(found[values > 0], np.minimum(values[values > 0] - 1, 12))
    assert (found[values == 0] == 255).all()


def test_images_are_transparent_where_no_patch_lies(data: Path, tmp_path: Path) -> None:
    done = draw(data, tmp_path, "--images")
    assert done.returncode == 0, done.stderr
    expected, _ = merged([image_of(data, id) for id in PLACES], 0)
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read([1, 2, 3]), expected[:3])
        assert file.colorinterp[3] == ColorInterp.alpha
        covered = file.dataset_mask() > 0
    assert covered.mean() == 0.5
    assert covered[:512].all()
    assert not covered[512:1024].any()


def test_missing_predictions_are_named(data: Path, predictions: Path, tmp_path: Path) -> None:
    (predictions / "predictions/PRED_077414.tif").unlink()
    done = draw(data, tmp_path, predictions)
    assert done.returncode == 0
    assert "gaps where predictions are missing, 1 of 3: PRED_077414.tif" in done.stderr
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read(1)[:512, 512:] == 255).all()


def test_overlaps_and_other_grids_are_told(data: Path, predictions: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    place = lambert(0.5, 1.0003)  # 256 pixels of 512 rows overlap with 077414
    write_raster(image_of(data, "077415"), draw_image(rng), transform=place)
    done = draw(data, tmp_path, predictions)
    assert done.returncode == 0, done.stderr
    assert "patches overlap in 16.7% of the map; the one with the higher id is shown there" in done.stderr
    assert "moved by up to 0.15 pixels" in done.stderr
    with rasterio.open(predictions / "predictions/PRED_077415.tif") as file:
        upper = file.read(1)
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read(1)[256:768, 512:], upper)


def test_unknown_areas_and_places_are_refused(data: Path, predictions: Path, tmp_path: Path) -> None:
    message = refusal(draw(data, tmp_path, predictions, area="D015_2020/Z1_UX"), tmp_path)
    assert f"no area D015_2020/Z1_UX; did you mean {NAME}?" in message
    for path in (predictions / "predictions").iterdir():
        path.rename(path.with_name(f"PRED_00{path.name[-8:]}"))
    message = refusal(draw(data, tmp_path, predictions), tmp_path)
    assert f"holds no prediction of {NAME}, such as PRED_077413.tif" in message
    assert "no such folder" in refusal(draw(data, tmp_path, tmp_path / "absent"), tmp_path)
    wrong = run_here("map_area", "--labels", "--data", data, "--area", NAME, "-o", tmp_path / "map.png")
    assert "expected a name that ends in .tif" in wrong.stderr


def test_images_that_do_not_say_where_they_lie_are_refused(data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    write_raster(image_of(data, "077413"), draw_image(rng), transform=rasterio.Affine.identity())
    assert "IMG_077413.tif: has no georeference" in refusal(draw(data, tmp_path, "--images"), tmp_path)
    write_raster(image_of(data, "077413"), draw_image(rng), transform=lambert(0, 0, pixel=0.5))
    assert "the pixels differ in size" in refusal(draw(data, tmp_path, "--images"), tmp_path)
    write_raster(image_of(data, "077413"), draw_image(rng), transform=lambert(900, 0))
    assert "lie up to 92 km apart" in refusal(draw(data, tmp_path, "--images"), tmp_path)
    utm = {"transform": lambert(0, 0), "crs": "EPSG:32631"}
    write_raster(image_of(data, "077413"), draw_image(rng), **utm)
    assert "is in EPSG:32631; expected Lambert-93" in refusal(draw(data, tmp_path, "--images"), tmp_path)
    image_of(data, "077413").write_bytes(b"II*\0\x08")
    assert "IMG_077413.tif: " in refusal(draw(data, tmp_path, "--images"), tmp_path)


def test_wrong_predictions_are_refused_together(data: Path, predictions: Path, tmp_path: Path) -> None:
    folder = predictions / "predictions"
    write_labels(folder / "PRED_077413.tif", np.full((512, 512), 13, np.uint8))
    assert "value 13; expected class indices 0 to 12" in refusal(draw(data, tmp_path, predictions), tmp_path)
    (folder / "PRED_077414.tif").write_bytes(b"")
    message = refusal(draw(data, tmp_path, predictions), tmp_path)
    assert "value 13" in message
    assert "PRED_077414.tif: is empty" in message


def test_names_of_folders_are_no_formulas(data: Path, predictions: Path, tmp_path: Path) -> None:
    folder = tmp_path / r"a$\frac$b"
    predictions.rename(folder)
    done = draw(data, tmp_path, folder)
    assert done.returncode == 0, done.stderr
