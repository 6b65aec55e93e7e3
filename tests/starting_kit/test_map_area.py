"""Maps of an area, read back by rasterio: at the right place, with the right classes and colours."""

from __future__ import annotations

import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from matplotlib.figure import Figure
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.merge import merge

from flair_baseline.maps.geotiff import NO_DATA
from flair_baseline.maps.picture import draw_image as draw_image_picture
from flair_baseline.maps.picture import draw_labels as draw_labels_picture
from flair_files import AREA, area_folder, draw_image, draw_labels, write_raster
from flair_scoring.maps.mosaic import Grid
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


def test_the_right_area_is_suggested(data: Path, tmp_path: Path) -> None:
    for id, area in (("077420", "Z1_NF"), ("077421", "Z2_UU")):
        folder = area_folder(data, "aerial", "test", DOMAIN, area=area)
        write_raster(folder / f"IMG_{id}.tif", draw_image(np.random.default_rng(5)))
    for wrong, right in (
        (f"{DOMAIN}/Z1_NX", f"did you mean {DOMAIN}/Z1_NF?"),
        (NAME.lower(), f"did you mean {NAME}?"),
        (NAME.replace("/", "_"), f"did you mean {NAME}?"),
        (DOMAIN, f"expected DOMAIN/AREA, such as {DOMAIN}/Z1_NF, {DOMAIN}/{AREA}, {DOMAIN}/Z2_UU"),
        (AREA, f"expected DOMAIN/AREA, such as {NAME}"),
        ("somewhere", f"areas are named like {DOMAIN}/"),
    ):
        assert f"no area {wrong}; {right}" in refusal(draw(data, tmp_path, "--images", area=wrong), tmp_path)


def test_data_without_images_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "flair_2_aerial_test")
    assert "holds no aerial images" in refusal(draw(data, tmp_path, "--labels"), tmp_path)


def test_missing_labels_matter_to_a_map_of_labels_only(data: Path, predictions: Path, tmp_path: Path) -> None:
    (area_folder(data, "labels", "test", DOMAIN) / "MSK_077414.tif").unlink()
    message = refusal(draw(data, tmp_path, "--labels"), tmp_path)
    assert f"{NAME} is incomplete or damaged (1 problem)" in message
    assert "no MSK_077414.tif" in message
    done = draw(data, tmp_path, predictions)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read(1)[:512, 512:] <= FLAIR_12.other).all()


def test_the_results_of_several_submissions_are_no_map(data: Path, predictions: Path, tmp_path: Path) -> None:
    shutil.copytree(predictions, tmp_path / "results/first")
    shutil.copytree(predictions, tmp_path / "results/second")
    message = refusal(draw(data, tmp_path, tmp_path / "results"), tmp_path)
    assert (
        "holds several predictions of a patch; name the folder that holds one of each (3 problems)" in message
    )
    assert f"077413: {tmp_path}/results/first/predictions/PRED_077413.tif, " in message


def test_the_title_names_the_result(
    data: Path, predictions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_arguments, **_options: figures.append(figure))
    for folder in (predictions, predictions / "predictions"):
        assert draw(data, tmp_path, folder).returncode == 0
    assert {figure.axes[0].get_title() for figure in figures} == {f"{NAME}: predictions of result"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("IMG_077413.tif", "is the name of a patch's file; choose another name"),
        ("PRED_077413.tif", "is the name of a patch's file; choose another name"),
        ("folder.tif", "is a folder; expected the name of a map to write"),
    ],
)
def test_names_that_are_no_map_are_refused(data: Path, tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder.tif").mkdir()
    output = image_of(data, "077413").with_name(name) if name.startswith("IMG") else tmp_path / name
    before = image_of(data, "077413").read_bytes()
    done = run_here("map_area", "--images", "--data", data, "--area", NAME, "-o", output)
    assert done.returncode == 2
    assert f"--output {output}: {sentence}" in done.stderr
    assert image_of(data, "077413").read_bytes() == before


def test_no_map_is_left_without_its_picture(data: Path, tmp_path: Path) -> None:
    (tmp_path / "map.png").mkdir()
    done = draw(data, tmp_path, "--images")
    assert done.returncode == 2
    assert "map.png: is a folder" in done.stderr
    assert not (tmp_path / "map.tif").exists()
    assert list((tmp_path / "map.png").iterdir()) == []


@pytest.mark.parametrize("whole", [True, False])
def test_the_legend_explains_gaps(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_arguments, **_options: figures.append(figure))
    corners = {"000001": (0, 0)} | ({} if whole else {"000002": (512, 512)})
    grid = Grid(WEST, NORTH, 0.2, 512 if whole else 1024, 512 if whole else 1024, corners, 0.0)
    labels = np.full((grid.height, grid.width), NO_DATA, np.uint8)
    labels[:512, :512] = 4
    draw_labels_picture(labels, grid, "labels", FLAIR_12)
    draw_image_picture(np.zeros((*labels.shape, 3), np.uint8), labels == 4, grid, "images")
    legends = [
        [text.get_text() for text in legend.get_texts()] if (legend := figure.axes[0].get_legend()) else []
        for figure in figures
    ]
    gap = [] if whole else ["no data"]
    assert legends == [["water, 100.0%", *gap], gap]


def test_letters_that_the_font_lacks_warn_of_nothing(
    data: Path, predictions: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = predictions.rename(tmp_path / "模型 🌳")
    assert draw(data, tmp_path, folder).returncode == 0
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


@pytest.mark.parametrize("shape", [(512, 512), (512, 6144), (6144, 512), (1024, 2048)])
def test_nothing_in_the_picture_overlaps(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_arguments, **_options: figures.append(figure))
    grid = Grid(WEST, NORTH, 0.2, *shape, {}, 0.0)
    draw_labels_picture(np.full(shape, 4, np.uint8), grid, f"{NAME}: predictions of {'x' * 70}", FLAIR_12)
    (figure,) = figures
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    inside = [text for text in texts if text.get_text() and text.get_visible()]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    shown = [
        text
        for text in inside
        if (text not in axes.get_xticklabels() or left <= text.get_position()[0] <= right)
        and (text not in axes.get_yticklabels() or bottom <= text.get_position()[1] <= top)
    ]
    assert len(shown) > 3
    for one, other in combinations(shown, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)
