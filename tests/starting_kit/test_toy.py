"""The toy data set has FLAIR #2's layout, names, formats and georeferencing, and is there whole or not."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

import flair_toy
from flair_baseline.config import load_config
from flair_baseline.samples.loader import PatchDataset
from flair_ingestion.dataset import check_patches, index_patches, read_superpatch
from flair_scoring.base.errors import UsageError
from flair_toy import dataset as toy
from flair_toy.area_files import write_raster
from flair_toy.areas import PATCHES, SIZES, Share, Size, plan_areas

SCRIPT = Path(__file__).parents[2] / "starting_kit" / "make_toy_dataset.py"
AREA = r"(D\d{3}_20\d\d)/(Z\d+_[AFHNU]{2})"
NAMES = [
    rf"flair_2_toy_aerial_(train|test)/{AREA}/img/IMG_\d{{6}}\.tif",
    rf"flair_2_toy_labels_(train|test)/{AREA}/msk/MSK_\d{{6}}\.tif",
    rf"flair_2_toy_sen_(train|test)/{AREA}/sen/SEN2_sp_\2-\3_(data\.npy|masks\.npy|products\.txt)",
    r"flair-2_centroids_sp_to_patch\.json|flair_aerial_metadata\.json|toy\.json",
]
PRODUCT = re.compile(r"S2[AB]_MSIL2A_(20\d{6})T\d{6}_N\d{4}_R\d{3}_T\d\d[A-Z]{3}_\1T\d{6}")
VALIDATION = {"D004_2021", "D014_2020", "D029_2021"}
ONE_AREA = Size({"train": Share(1, 1, 2)}, dates=(20, 20))


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A tiny data set and what the command printed about it."""
    out = tmp_path_factory.mktemp("toy") / "tiny"
    done = run_script(out, "--size", "tiny")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture
def tiny(made: tuple[Path, str]) -> Path:
    return made[0]


def split_of(path: Path) -> str:
    if "_test" in path.as_posix():
        return "test"
    return "val" if VALIDATION & set(path.parts) else "train"


def labels_of(image: Path) -> Path:
    return Path(image.as_posix().replace("_aerial_", "_labels_").replace("/img/IMG", "/msk/MSK"))


def series_of(image: Path) -> Path:
    """The data file of the series of an image's area."""
    (data,) = Path(image.parents[1].as_posix().replace("_aerial_", "_sen_")).glob("sen/*_data.npy")
    return data


def masks_of(data: Path) -> Path:
    return data.with_name(data.name.replace("_data", "_masks"))


def images(root: Path) -> list[Path]:
    found = sorted(root.glob("flair_2_toy_aerial_*/*/*/img/*.tif"))
    assert found
    return found


def digest(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_every_name_is_flair_2s_and_images_labels_and_series_belong_together(tiny: Path) -> None:
    files = [path.relative_to(tiny).as_posix() for path in tiny.rglob("*") if path.is_file()]
    assert [name for name in files if not any(re.fullmatch(pattern, name) for pattern in NAMES)] == []
    for image in images(tiny):
        assert labels_of(image).is_file()
        assert len(list(series_of(image).parent.iterdir())) == 3
    assert len(list(tiny.rglob("MSK_*"))) == len(images(tiny))
    assert len(list(tiny.rglob("sen"))) == len({image.parent for image in images(tiny)})


def test_each_split_has_three_domains_and_identifiers_of_its_own_range(tiny: Path) -> None:
    domains: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for image in images(tiny):
        domains[split_of(image)].add(image.parts[-4])
        assert (int(image.stem[4:]) >= 77413) == (split_of(image) == "test")
    assert all(len(names) >= 3 for names in domains.values())
    assert len({image.name for image in images(tiny)}) == len(images(tiny))


def test_rasterio_reads_bands_and_the_national_grid(tiny: Path) -> None:
    metadata = json.loads((tiny / "flair_aerial_metadata.json").read_text())
    for image in images(tiny):
        with rasterio.open(image) as aerial, rasterio.open(labels_of(image)) as labels:
            assert (aerial.count, aerial.dtypes[0], aerial.shape) == (5, "uint8", (512, 512))
            assert (labels.count, labels.dtypes[0], labels.shape) == (1, "uint8", (512, 512))
            for raster in (aerial, labels):
                assert raster.crs.to_epsg() == 2154
                assert "RGF93 v1 / Lambert-93" in raster.crs.to_wkt()
                assert raster.res == pytest.approx((0.2, 0.2), rel=1e-9)
                assert raster.bounds.left % 102.4 == pytest.approx(3.2, abs=1e-6)
                assert raster.bounds.top % 102.4 == pytest.approx(20.8, abs=1e-6)
                assert raster.tags()["AREA_OR_POINT"] == "Area"
                undated = {"TIFFTAG_SOFTWARE", "TIFFTAG_DATETIME", "TIFFTAG_IMAGEDESCRIPTION"}
                assert undated.isdisjoint(raster.tags())
            fields = metadata[image.stem]
            assert aerial.xy(255.5, 255.5) == pytest.approx(
                (fields["patch_centroid_x"], fields["patch_centroid_y"]), abs=0.06
            )


def test_rasterio_reads_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("image.tif", (5, 512, 512)), ("labels.tif", (1, 512, 512))):
        pixels = rng.integers(0, 256, shape, np.uint8)
        bands_last = np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0]
        write_raster(tmp_path / name, bands_last, 659254.4, 6439956.8, 0.2)
        with rasterio.open(tmp_path / name) as raster:
            assert np.array_equal(raster.read(), pixels)
            assert raster.transform == rasterio.Affine(0.2, 0, 659254.4, 0, -0.2, 6439956.8)
            assert raster.profile["compress"] == "deflate"
            assert raster.block_shapes == [(512, 512)] * len(pixels)


def test_the_package_imports_flair_scoring_only_and_no_torch() -> None:
    named = {"flair_ingestion", "flair_baseline", "torch"}
    for path in Path(flair_toy.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert named.isdisjoint(name.split(".")[0] for name in names), path
    loaded = "import sys, flair_toy.dataset; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert "flair_scoring" in done.stdout.split()
    assert named.isdisjoint(done.stdout.split())


def test_labels_are_flair_values_in_blocks_of_2_x_2(tiny: Path) -> None:
    for image in images(tiny):
        labels = rasterio.open(labels_of(image)).read(1)
        assert labels.min() >= 1
        assert labels.max() <= 19
        assert np.array_equal(labels, np.kron(labels[::2, ::2], np.ones((2, 2), np.uint8)))


def test_every_split_has_all_twelve_classes_and_every_patch_several(tiny: Path) -> None:
    pixels = {split: np.zeros(20) for split in ("train", "val", "test")}
    for image in images(tiny):
        counts = np.bincount(rasterio.open(labels_of(image)).read(1).ravel(), minlength=20)
        assert (counts > 500).sum() >= 2
        pixels[split_of(image)] += counts
    for counts in pixels.values():
        shares = counts[1:13] / counts.sum()
        assert shares.min() > 0.02
        assert shares.max() < 0.25


def test_series_are_chronological_and_within_the_year_of_the_domain(tiny: Path) -> None:
    for data_path in sorted(tiny.rglob("*_data.npy")):
        data = np.load(data_path, mmap_mode="r")
        masks = np.load(masks_of(data_path))
        lines = (
            data_path.with_name(data_path.name.replace("_data.npy", "_products.txt")).read_text().splitlines()
        )
        assert data.dtype == np.uint16
        assert masks.dtype == np.uint8
        assert data.shape == (len(lines), 10, 156, 156)
        assert masks.shape == (len(lines), 2, 156, 156)
        assert 20 <= len(lines) <= 40
        assert masks.max() <= 100
        assert data.min() > 0
        matches = [PRODUCT.fullmatch(line) for line in lines]
        dates = [match[1] for match in matches if match]
        assert len(dates) == len(lines)
        assert dates == sorted(set(dates))
        year = data_path.parts[-4][5:]
        assert {date[:4] for date in dates} == {year}
        assert f"{year}0229" not in dates  # IGN's code fails on such a date


def test_a_29_february_which_a_real_series_may_have_is_read_as_a_day_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "one area", ONE_AREA)
    toy.make_toy_dataset(tmp_path / "toy", "one area", seed=1)
    patch, _ = index_patches(tmp_path / "toy", "train", labels=True)
    products = Path(patch.super_area.products)
    lines = products.read_text().splitlines()
    index = next(index for index, line in enumerate(lines) if line[11:19] > "20200229")
    lines[index] = lines[index].replace(lines[index][11:19], "20200229")
    products.write_text("\n".join(lines) + "\n")

    assert check_patches([patch], labels=True, decode=False, progress=False) == []
    dates = read_superpatch(patch, 40).dates.astype("datetime64[D]").astype(str)
    assert dates[index] == "2020-02-29"
    sample = PatchDataset([patch], load_config("utt"))[0]
    assert sample.days is not None
    assert sample.days[index] == 59  # 1 March is day 60 of that year


def test_masks_describe_clouds_and_snow(tiny: Path) -> None:
    """Nothing on the ground but a little building is as bright in blue as clouds and snow are."""
    snow_seen = False
    for data_path in sorted(tiny.rglob("*_data.npy")):
        masks = np.load(masks_of(data_path))
        blue, swir = np.load(data_path)[:, [0, 8]].transpose(1, 0, 2, 3)
        snow, cloud = masks.transpose(1, 0, 2, 3)
        clear = (snow == 0) & (cloud == 0)
        assert np.mean(blue[clear] > 2500) < 0.005
        assert np.mean(blue[cloud > 95] > 2500) > 0.99
        assert 0.2 < np.mean(cloud > 50) < 0.8
        if (snow > 90).any():
            snow_seen = True
            covered = (snow > 90) & (cloud == 0)
            assert np.median(blue[covered]) > 5000
            assert np.median(swir[covered]) < 3000
    assert snow_seen


def test_json_files_cover_every_patch_with_flair_2s_keys(tiny: Path) -> None:
    centroids = json.loads((tiny / "flair-2_centroids_sp_to_patch.json").read_text())
    metadata = json.loads((tiny / "flair_aerial_metadata.json").read_text())
    assert {f"{name}.tif" for name in metadata} == set(centroids)
    assert {image.name for image in images(tiny)} < set(centroids)
    for row, column in centroids.values():
        assert 55 <= min(row, column) <= max(row, column) <= 156 - 55  # a window of 110 pixels fits
    for image in images(tiny):
        fields = metadata[image.stem]
        assert set(fields) == {
            *("domain", "zone", "date", "time", "camera"),
            *("patch_centroid_x", "patch_centroid_y", "patch_centroid_z"),
        }
        assert (fields["domain"], fields["zone"]) == image.parts[-4:-2]
        assert re.fullmatch(r"20\d\d-(0[4-9]|1[01])-\d\d", fields["date"])
        assert re.fullmatch(r"\d\dh\d\d", fields["time"])


def test_centroids_put_the_annotation_onto_the_right_sentinel_pixels(tiny: Path) -> None:
    """The vegetation index of the clear dates fits the share of ground without plants best at no offset."""
    centroids = json.loads((tiny / "flair-2_centroids_sp_to_patch.json").read_text())
    bare, greenness = [], {(down, right): [] for down in range(-3, 4) for right in range(-3, 4)}
    for image in images(tiny):
        labels = rasterio.open(labels_of(image)).read(1)
        edges = np.linspace(0, 512, 11).round().astype(int)[:-1]
        shares = np.add.reduceat(np.add.reduceat(np.isin(labels, (1, 2, 3, 4, 5)) * 1.0, edges, 0), edges, 1)
        bare.append(shares.ravel())
        data, masks = (
            np.load(series_of(image)),
            np.load(series_of(image).as_posix().replace("_data", "_masks")),
        )
        red, infrared = (
            np.ma.array(data[:, band], mask=masks.max(axis=1) > 0, dtype=float) for band in (2, 6)
        )
        index = ((infrared - red) / (infrared + red)).mean(axis=0).filled(0)
        row, column = centroids[image.name]
        for down, right in greenness:
            window = index[row + down - 5 : row + down + 5, column + right - 5 : column + right + 5]
            greenness[down, right].append(window.ravel())
    fit = {
        offset: np.corrcoef(np.concatenate(bare), np.concatenate(windows))[0, 1]
        for offset, windows in greenness.items()
    }
    assert min(fit, key=lambda offset: fit[offset]) == (0, 0)
    assert fit[0, 0] < -0.8


def test_same_seed_same_bytes_whatever_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        SIZES, "two areas", Size({"train": Share(1, 1, 2), "test": Share(1, 1, 2)}, dates=(20, 20))
    )
    toy.make_toy_dataset(tmp_path / "one", "two areas", seed=7, processes=1)
    toy.make_toy_dataset(tmp_path / "two", "two areas", seed=7, processes=2)
    toy.make_toy_dataset(tmp_path / "other", "two areas", seed=8, processes=2)
    one, two, other = (digest(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    same = {name for name in one if other.get(name) == one[name]}
    assert same == {"flair-2_centroids_sp_to_patch.json"}  # the positions are the same


def test_large_plans_the_test_set_of_flair_2() -> None:
    areas = [area for area in plan_areas(SIZES["large"]) if area.split == "test"]
    ids = [area.first_id + patch for area in areas for patch in range(PATCHES**2)]
    assert ids == list(range(77413, 93463))  # 16,050 patches
    assert {area.domain.name for area in areas} == {
        *("D015_2020", "D022_2021", "D026_2020", "D036_2020", "D061_2020"),
        *("D064_2021", "D068_2021", "D069_2020", "D071_2020", "D084_2021"),
    }
    assert len({(area.domain, area.name) for area in areas}) == 642
    assert len({area.patch_corner(patch) for area in areas for patch in range(PATCHES**2)}) == 16050
    assert {area.written for area in areas} == {25}


def test_copies_are_whole_areas_that_share_the_files_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = Share(domains=2, areas=2, patches=3, larger=1, copies=True)
    monkeypatch.setitem(
        SIZES, "small stand-in", Size({"train": Share(1, 1, 1), "test": test}, dates=(20, 20))
    )
    pixels = toy.make_toy_dataset(tmp_path, "small stand-in", seed=3)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [
        p for p in files if not any(re.fullmatch(n, p.relative_to(tmp_path).as_posix()) for n in NAMES)
    ] == []

    patches = index_patches(tmp_path, "test", labels=True)
    areas = [(patch.domain, patch.area) for patch in patches[::3]]
    assert [(patch.domain, patch.area) for patch in patches] == [area for area in areas for _ in range(3)]
    assert [domain for domain, _ in areas] == ["D015_2020"] * 3 + ["D022_2021"] * 2
    assert len(set(areas)) == 5
    for patch in patches:
        image = Path(patch.image)
        assert (int(patch.id) - 77413) // 25 == areas.index((patch.domain, patch.area))
        first = patches[0 if patch.domain == "D015_2020" else 9 :][:3]  # the area that was drawn
        (original,) = (one for one in first if (int(one.id) - int(patch.id)) % 25 == 0)
        assert image.samefile(original.image)
        assert labels_of(image).samefile(labels_of(Path(original.image)))
        assert series_of(image).samefile(series_of(Path(original.image)))
        assert patch.centroid == original.centroid  # the pixels of the series that the image shows
    assert len({patch.metadata["patch_centroid_x"] for patch in patches}) > 9

    counts = np.zeros(20, np.int64)
    for patch in patches:
        counts += np.bincount(rasterio.open(patch.labels).read(1).ravel(), minlength=20)
    np.testing.assert_array_equal(pixels["test"], counts)


def test_an_earlier_toy_data_set_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "one area", ONE_AREA)
    out = tmp_path / "new" / "toy"
    toy.make_toy_dataset(out, "one area", seed=1)
    (out / "left over").touch()
    toy.make_toy_dataset(out, "one area", seed=2)
    assert json.loads((out / "toy.json").read_text())["seed"] == 2
    assert not (out / "left over").exists()
    assert [path.name for path in out.parent.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["holiday"], "is there and is no toy data set"),
        (["holiday/photo.jpg"], "is there and is no toy data set"),
        (["holiday/photo.jpg/toy"], "cannot be written"),
        (["new", "--seed", "-1"], "give 0 or more"),
        (["new", "--size", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_refuses_in_a_sentence_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("holiday").mkdir()
    Path("holiday/photo.jpg").write_text("sunset")
    done = run_script(*arguments, *([] if "--size" in arguments else ["--size", "tiny"]))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.as_posix() for path in sorted(Path().rglob("*"))] == ["holiday", "holiday/photo.jpg"]


def die(*_: object) -> None:
    os._exit(1)


def test_a_drawing_process_that_is_killed_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "one area", ONE_AREA)
    monkeypatch.setattr(toy, "write_area", die)
    with pytest.raises(UsageError, match="a process that draws was killed; perhaps the machine ran out"):
        toy.make_toy_dataset(tmp_path / "toy", "one area", seed=1, processes=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path, stop: signal.Signals, code: int) -> None:
    out = tmp_path / "toy"
    out.mkdir()
    (out / "toy.json").write_text("the earlier data set")
    child = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), "--size", "tiny"],
        stderr=subprocess.PIPE,
        text=True,
        # what a shell starts in the background ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".toy.*/data/*/*/*/*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(stop)
    assert "Traceback" not in child.communicate(timeout=60)[1]
    assert child.returncode == code
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    assert [path.name for path in out.iterdir()] == ["toy.json"]


def test_the_command_prints_the_share_of_every_class(made: tuple[Path, str]) -> None:
    root, printed = made
    rows = {line[:24].strip(): line[24:].split() for line in printed.splitlines()}
    assert rows.pop("") == ["train", "val", "test"]
    assert rows.pop("patches") == ["12", "12", "12"]
    assert len(rows) == 13
    for column, split in enumerate(("train", "val", "test")):
        labels = [
            rasterio.open(labels_of(image)).read(1) for image in images(root) if split_of(image) == split
        ]
        assert float(rows["water"][column].rstrip("%")) == pytest.approx(
            100 * np.mean(np.equal(labels, 5)), abs=0.06
        )
        assert float(rows["other"][column].rstrip("%")) == pytest.approx(
            100 * np.mean(np.greater(labels, 12)), abs=0.06
        )
