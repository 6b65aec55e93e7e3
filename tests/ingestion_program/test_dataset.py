"""The data set: what is found, read and refused, against rasterio, numpy and the calendar."""

from __future__ import annotations

import ctypes
import datetime
import json
import mmap
import os
import random
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import flair_files
from flair_files import AREA, CENTROIDS, DOMAINS, METADATA, area_folder
from flair_ingestion.dataset import (
    SPLITS,
    VALIDATION_DOMAINS,
    Patch,
    SuperArea,
    check_patches,
    index_patches,
    labels_folder,
    read_ahead,
    read_dates,
    read_image,
    read_labels,
    read_superpatch,
    sample_patches,
)
from flair_ingestion.dataset.superarea import open_super_area
from flair_scoring.base.errors import DataError, UsageError

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "flair2_real_patches"
NO_SERIES = SuperArea("D006_2020", AREA, "", "", "")


@pytest.fixture
def tree(flair_tree: Path, tmp_path: Path) -> Path:
    """A data set that the test may damage."""
    return Path(shutil.copytree(flair_tree, tmp_path / "data"))


def make_patch(
    image: Path, labels: Path | None = None, series: SuperArea = NO_SERIES, **fields: Any
) -> Patch:
    return Patch(
        **{
            "id": "000001",
            "domain": "D006_2020",
            "area": AREA,
            "image": str(image),
            "labels": labels and str(labels),
            "super_area": series,
            "centroid": (60, 60),
            "metadata": {},
        }
        | fields
    )


def series_files(tree: Path, domain: str = "D006_2020", part: str = "train") -> dict[str, Path]:
    stem = f"SEN2_sp_{domain}-{AREA}"
    folder = area_folder(tree, "sen", part, domain)
    names = {"data": f"{stem}_data.npy", "masks": f"{stem}_masks.npy", "products": f"{stem}_products.txt"}
    return {key: folder / name for key, name in names.items()}


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("toy", [False, True])
def test_patches_are_matched_by_id_whatever_the_order_and_the_litter(
    toy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = flair_files.write_flair_tree(tmp_path, toy)
    for root, folders, files in list(os.walk(tree)):
        for name in [*folders, *files]:
            if name.startswith(("IMG", "MSK", "SEN2", "D0")):
                Path(root, f"._{name}").write_bytes(b"\0")
        Path(root, ".DS_Store").touch()
        Path(root, "__MACOSX").mkdir()
    area_folder(tree, "labels", "train", "D006_2020", toy).joinpath("MSK_0000099.tif").touch()
    listdir = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: random.Random(3).sample(listdir(path), len(listdir(path)))
    )
    first = {"train": 1, "val": 7, "test": 77413}
    centroids = json.loads((tree / CENTROIDS).read_text())
    for split in SPLITS:
        patches = index_patches(tree, split, labels=True)
        assert [int(patch.id) for patch in patches] == list(range(first[split], first[split] + 6))
        assert [patch.domain for patch in patches] == [d for d in DOMAINS[split] for _ in range(2)]
        for patch in patches:
            part = "test" if split == "test" else "train"
            folders = [
                area_folder(tree, kind, part, patch.domain, toy) for kind in ("aerial", "labels", "sen")
            ]
            assert patch.image == str(folders[0] / f"IMG_{patch.id}.tif")
            assert patch.labels == str(folders[1] / f"MSK_{patch.id}.tif")
            assert patch.super_area.data == str(folders[2] / f"SEN2_sp_{patch.domain}-{AREA}_data.npy")
            assert list(patch.centroid) == centroids[f"IMG_{patch.id}.tif"]


def test_validation_is_the_eight_domains_of_the_data_card() -> None:
    numbers = sorted(int(domain[1:4]) for domain in VALIDATION_DOMAINS)
    assert numbers == [4, 14, 29, 31, 58, 66, 67, 77]


def test_labels_are_left_out_unless_asked_for(tree: Path) -> None:
    shutil.rmtree(tree / "flair_2_labels_test")
    patches = index_patches(tree, "test")
    assert [patch.labels for patch in patches] == [None] * 6
    with pytest.raises(DataError, match="flair_2_labels_test"):
        labels_folder(tree, "test")
    assert labels_folder(tree, "val") == tree / "flair_labels_train"


def test_the_other_spelling_of_the_centroids_json_is_read(tree: Path) -> None:
    (tree / CENTROIDS).rename(tree / "flair_2_centroids_sp_to_patch.json")
    assert len(index_patches(tree, "train")) == 6


def test_metadata_has_six_fields_and_none_for_absent_ones(tree: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["IMG_000001"]["time"], content["IMG_000001"]["patch_centroid_x"]
        content["IMG_000001"] |= {"patch_centroid_z": float("nan"), "camera": None}

    edit_json(tree / METADATA, change)
    first, second, *_ = index_patches(tree, "train")
    absent = {"time": None, "patch_centroid_x": None, "patch_centroid_z": None, "camera": None}
    assert first.metadata == {"date": "2020-07-10", "patch_centroid_y": 6890977.6} | absent
    assert second.metadata == {
        "date": "2020-07-11",
        "time": "11h42",
        "patch_centroid_x": 873936.0,
        "patch_centroid_y": 6890977.6,
        "patch_centroid_z": 182.5,
        "camera": "UCE-M3-f120-s06",
    }


def truncate(path: Path, kept: int = -10) -> None:
    path.write_bytes(path.read_bytes()[:kept])


def overwrite(path: Path, at: int, content: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])


def save_data(shape: tuple[int, ...], dtype: str = "uint16") -> Callable[[Path], None]:
    return lambda tree: np.save(series_files(tree)["data"], np.zeros(shape, dtype))


def save_masks(shape: tuple[int, ...], dtype: str = "uint8") -> Callable[[Path], None]:
    return lambda tree: np.save(series_files(tree)["masks"], np.zeros(shape, dtype))


def write_products(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def damage(tree: Path) -> None:
        path = series_files(tree)["products"]
        path.write_text("\n".join(change(path.read_text().splitlines())))

    return damage


def set_entry(json_name: str, key: str, value: Any) -> Callable[[Path], None]:
    return lambda tree: edit_json(tree / json_name, lambda content: content.update({key: value}))


def drop_entry(json_name: str, key: str) -> Callable[[Path], None]:
    return lambda tree: edit_json(tree / json_name, lambda content: content.pop(key))


def file(kind: str, name: str, domain: str = "D006_2020") -> Callable[[Path], Path]:
    return lambda tree: area_folder(tree, kind, "train", domain) / name


def copy_image_elsewhere(tree: Path) -> None:
    shutil.copy(file("aerial", "IMG_000001.tif")(tree), file("aerial", "IMG_000001.tif", "D007_2020")(tree))


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no aerial folder": (lambda t: shutil.rmtree(t / "flair_aerial_train"), ["no folder flair_aerial_train"]),
    "no series folder": (lambda t: shutil.rmtree(t / "flair_sen_train"), ["no folder flair_sen_train"]),
    "no labels folder": (lambda t: shutil.rmtree(t / "flair_labels_train"), ["no folder flair_labels_train"]),
    "real and toy": (
        lambda t: (t / "flair_2_toy_sen_train").mkdir(),
        ["holds both flair_sen_train and flair_2_toy"],
    ),
    "no domains": (
        lambda t: [shutil.rmtree(t / "flair_aerial_train" / domain) for domain in DOMAINS["train"]],
        ["flair_aerial_train: no domains of the train split"],
    ),
    "no areas": (lambda t: shutil.rmtree(t / "flair_aerial_train/D006_2020/Z1_UF"), ["D006_2020: no areas"]),
    "no images": (
        lambda t: shutil.rmtree(t / "flair_aerial_train/D006_2020/Z1_UF/img"),
        ["Z1_UF/img: missing or"],
    ),
    "image without label": (
        lambda t: file("labels", "MSK_000002.tif")(t).unlink(),
        ["no MSK_000002.tif", "IMG_000002"],
    ),
    "label in another area": (
        lambda t: file("labels", "MSK_000002.tif")(t).rename(
            file("labels", "MSK_000002.tif", "D007_2020")(t)
        ),
        ["D006_2020/Z1_UF/msk: no MSK_000002.tif"],
    ),
    "id twice": (
        copy_image_elsewhere,
        ["D007_2020/Z1_UF/img/IMG_000001.tif: the id 000001 is taken by", "D006_2020"],
    ),
    "no data and no masks": (
        lambda t: [series_files(t)[key].unlink() for key in ("data", "masks")],
        ["D006_2020/Z1_UF/sen: lacks SEN2_sp_D006_2020-Z1_UF_data.npy, SEN2_sp_D006_2020-Z1_UF_masks.npy"],
    ),
    "no products": (
        lambda t: series_files(t)["products"].unlink(),
        ["lacks SEN2_sp_D006_2020-Z1_UF_products.txt"],
    ),
    "npy cut": (lambda t: truncate(series_files(t)["data"]), ["_data.npy: not a whole npy file"]),
    "npy header cut": (
        lambda t: truncate(series_files(t)["masks"], 20),
        ["_masks.npy: not a whole npy file"],
    ),
    "npy header torn": (  # numpy's parser fails with an error of Python's tokenizer
        lambda t: overwrite(series_files(t)["data"], 20, b"("),
        ["_data.npy: not a whole npy file"],
    ),
    "npy of something else": (
        lambda t: series_files(t)["data"].write_text("PK"),
        ["_data.npy: not a whole npy file"],
    ),
    "npy too long": (
        lambda t: series_files(t)["data"].write_bytes(series_files(t)["data"].read_bytes() + b"0"),
        ["_data.npy: 1612129 bytes, but its header announces 1612128"],
    ),
    "pickled npy": (
        lambda t: np.save(series_files(t)["data"], np.array([{}], dtype=object), allow_pickle=True),
        ["_data.npy: not a whole npy file"],
    ),
    "rank": (save_data((5, 10, 130)), ["_data.npy: shape (5, 10, 130); expected (T, 10, H, W)"]),
    "bands": (save_data((5, 9, 130, 124)), ["_data.npy: shape (5, 9, 130, 124)"]),
    "no dates": (save_data((0, 10, 130, 124)), ["_data.npy: shape (0, 10, 130, 124)"]),
    "dtype of data": (save_data((5, 10, 130, 124), "int16"), ["_data.npy: dtype int16; expected uint16"]),
    "dtype of masks": (
        save_masks((5, 2, 130, 124), "float32"),
        ["_masks.npy: dtype float32; expected integers"],
    ),
    "T of masks": (save_masks((4, 2, 130, 124)), ["_masks.npy: shape (4, 2, 130, 124) does not fit"]),
    "H of masks": (save_masks((5, 2, 129, 124)), ["_masks.npy: shape (5, 2, 129, 124) does not fit"]),
    "W of masks": (save_masks((5, 2, 130, 125)), ["_masks.npy: shape (5, 2, 130, 125) does not fit"]),
    "product missing": (write_products(lambda lines: lines[1:]), ["_products.txt: 4 products", "5 dates"]),
    "line without date": (
        write_products(lambda lines: [*lines[:3], "", lines[4]]),
        ["_products.txt", "line 4 ('')"],
    ),
    "no such day": (
        write_products(lambda lines: [line.replace("20200120", "20210229") for line in lines]),
        ["_products.txt: no date in line 1 ('S2A_MSIL2A_20210229T105021"],
    ),
    "empty products": (write_products(lambda lines: []), ["_products.txt: no date in an empty file"]),
    "no centroid": (drop_entry(CENTROIDS, "IMG_000002.tif"), [CENTROIDS, "no key 'IMG_000002.tif'"]),
    "no metadata": (drop_entry(METADATA, "IMG_000002"), [METADATA, "no key 'IMG_000002'"]),
    "no centroids json": (lambda t: (t / CENTROIDS).unlink(), ["no file flair-2_centroids_sp_to_patch.json"]),
    "no metadata json": (lambda t: (t / METADATA).unlink(), ["no file flair_aerial_metadata.json"]),
    "json cut": (lambda t: truncate(t / CENTROIDS), [CENTROIDS, "not a readable json file"]),
    "json list": (lambda t: (t / METADATA).write_text("[]"), [METADATA, "holds a list"]),
    "centroid above": (
        set_entry(CENTROIDS, "IMG_000001.tif", [4, 60]),
        ["'IMG_000001.tif' is [4, 60]: the central"],
    ),
    "centroid below": (set_entry(CENTROIDS, "IMG_000001.tif", [126, 60]), ["'IMG_000001.tif' is [126, 60]"]),
    "centroid left": (set_entry(CENTROIDS, "IMG_000001.tif", [60, 4]), ["'IMG_000001.tif' is [60, 4]"]),
    "centroid right": (set_entry(CENTROIDS, "IMG_000001.tif", [60, 120]), ["'IMG_000001.tif' is [60, 120]"]),
    "centroid of floats": (
        set_entry(CENTROIDS, "IMG_000001.tif", [60.0, 60]),
        ["'IMG_000001.tif' is [60.0, 60]; ex"],
    ),
    "centroid of one": (
        set_entry(CENTROIDS, "IMG_000001.tif", [60]),
        ["'IMG_000001.tif' is [60]; expected two"],
    ),
    "centroid null": (
        set_entry(CENTROIDS, "IMG_000001.tif", None),
        ["'IMG_000001.tif' is None; expected two"],
    ),
    "json too deep": (lambda tree: (tree / METADATA).write_text("[" * 100_000), ["not a readable json file"]),
    "metadata null": (set_entry(METADATA, "IMG_000001", None), ["'IMG_000001' is None; expected an object"]),
    "metadata malformed": (
        set_entry(
            METADATA, "IMG_000001", {"date": "10 July", "time": 9, "patch_centroid_x": "8", "camera": ""}
        ),
        ["'IMG_000001' has date '10 July', time '9', patch_centroid_x '8', camera ''"],
    ),
}


@pytest.mark.parametrize(("damage", "named"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(tree: Path, damage: Callable[[Path], object], named: list[str]) -> None:
    damage(tree)
    with pytest.raises(DataError) as caught:
        index_patches(tree, "train", labels=True)
    (problem,) = [line for line in str(caught.value).splitlines()[1:] if all(part in line for part in named)]
    assert problem.startswith(f"  - {tree}")


def test_faults_are_reported_together(tree: Path) -> None:
    chosen = (
        "no centroids json",
        "image without label",
        "T of masks",
        "product missing",
        "id twice",
        "metadata null",
    )
    for name in chosen:
        FAULTS[name][0](tree)
    shutil.rmtree(tree / "flair_aerial_train/D008_2019/Z1_UF")
    with pytest.raises(DataError) as caught:
        index_patches(tree, "train", labels=True)
    named = [part for name in chosen for part in FAULTS[name][1]]
    assert [part for part in [*named, "D008_2019: no areas"] if part not in str(caught.value)] == []


def test_windows_at_the_limit_are_inside(tree: Path) -> None:
    corners = {"IMG_000001.tif": [5, 5], "IMG_000002.tif": [125, 119]}
    edit_json(tree / CENTROIDS, lambda content: content.update(corners))
    assert [patch.centroid for patch in index_patches(tree, "train")[:2]] == [(5, 5), (125, 119)]


def test_an_unknown_split_is_a_usage_error(flair_tree: Path) -> None:
    with pytest.raises(UsageError, match="train, val, test"):
        index_patches(flair_tree, "validation")


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "zstd"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_image_and_labels_equal_rasterio(tmp_path: Path, interleave: str, compression: str) -> None:
    rng = np.random.default_rng(1)
    options = {"interleave": interleave, "compress": compression}
    image, labels = tmp_path / "IMG_000001.tif", tmp_path / "MSK_000001.tif"
    flair_files.write_raster(image, rng.integers(0, 256, (5, 512, 512), np.uint8), **options)
    flair_files.write_raster(labels, flair_files.draw_labels(rng), **options)
    patch = make_patch(image, labels)
    with rasterio.open(image) as opened:
        np.testing.assert_array_equal(read_image(patch), opened.read(), strict=True)
    with rasterio.open(labels) as opened:
        np.testing.assert_array_equal(read_labels(patch), opened.read(1), strict=True)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no sample of FLAIR #2 in {REAL}")
def test_real_patches_equal_rasterio() -> None:
    images = sorted(REAL.glob("flair_aerial_train/*/*/img/IMG_*.tif"))
    assert len(images) == 3
    for image in images:
        folder = Path(str(image.parents[1]).replace("aerial", "labels")) / "msk"
        labels = folder / image.name.replace("IMG", "MSK")
        patch = make_patch(image, labels)
        with rasterio.open(image) as opened:
            np.testing.assert_array_equal(read_image(patch), opened.read(), strict=True)
        with rasterio.open(labels) as opened:
            np.testing.assert_array_equal(read_labels(patch), opened.read(1), strict=True)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no sample of FLAIR #2 in {REAL}")
def test_real_patches_are_indexed_with_what_is_known_of_them(tmp_path: Path) -> None:
    shutil.copytree(REAL, tmp_path, dirs_exist_ok=True, copy_function=os.symlink)
    centroids = {}
    for image in tmp_path.glob("flair_aerial_train/*/*/img/IMG_*.tif"):
        domain, area = image.parts[-4:-2]
        folder = area_folder(tmp_path, "sen", "train", domain, area=area)
        flair_files.write_series(folder, domain, area, np.random.default_rng(0))
        centroids[image.name] = [60, 60]
    (tmp_path / CENTROIDS).write_text(json.dumps(centroids))
    found = {patch.id: patch for patch in index_patches(tmp_path, "train", labels=True)}
    assert sorted(found) == ["034217", "036294", "050549"]
    assert found["036294"].metadata["date"] == "2018-09-16"
    assert found["036294"].metadata["camera"] == "CAMERA#020"
    assert found["036294"].metadata["time"] is None
    assert found["036294"].metadata["patch_centroid_z"] is None


@pytest.mark.parametrize("size", [10, 40, 110])
@pytest.mark.parametrize("row", [5, 60, 70, 125])
@pytest.mark.parametrize("column", [5, 64, 119])
def test_windows_equal_slices_of_the_padded_array(flair_tree: Path, size: int, row: int, column: int) -> None:
    files = series_files(flair_tree)
    series = SuperArea("D006_2020", AREA, *map(str, files.values()))
    window = read_superpatch(make_patch(Path(), series=series, centroid=(row, column)), size)
    for got, path, dtype in (
        (window.data, files["data"], np.uint16),
        (window.masks, files["masks"], np.uint8),
    ):
        padded = np.pad(np.load(path), [(0, 0), (0, 0), (60, 60), (60, 60)], mode="edge")
        top, left = row + 60 - size // 2, column + 60 - size // 2
        expected = padded[:, :, top : top + size, left : left + size].astype(dtype)
        np.testing.assert_array_equal(got, expected, strict=True)
    first = datetime.date(2020, 1, 20)
    days = [(first + datetime.timedelta(weeks=7 * i) - datetime.date(1970, 1, 1)).days for i in range(5)]
    np.testing.assert_array_equal(window.dates, np.array(days, np.int32), strict=True)


def count_cached(path: Path) -> int:
    """How many bytes of the file are in the page cache, in whole pages."""
    content = np.memmap(path, np.uint8, "r")
    pages = np.zeros(content.nbytes // mmap.PAGESIZE, np.uint8)
    arguments = content.ctypes.data, content.nbytes, pages.ctypes.data
    assert not ctypes.CDLL(None).mincore(*map(ctypes.c_void_p, arguments))
    return int((pages & 1).sum()) * mmap.PAGESIZE


def test_reading_ahead_fills_the_page_cache_and_no_memory(tmp_path: Path) -> None:
    size = 24 << 20  # more than disks read ahead by themselves
    paths = [tmp_path / name for name in ("data.npy", "masks.npy")]
    for path in paths:
        with path.open("wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    tracemalloc.start()
    read_ahead(SuperArea("D006_2020", AREA, *map(str, paths), ""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [count_cached(path) for path in paths] == [size, size]
    assert peak < 4 << 20


def test_reading_ahead_leaves_a_lost_file_to_those_who_need_it(tree: Path) -> None:
    patch = index_patches(tree, "train")[0]
    open_super_area.cache_clear()
    series_files(tree)["data"].unlink()
    read_ahead(patch.super_area)
    with pytest.raises(DataError, match=r"_data\.npy: not a whole npy file .*No such file"):
        read_superpatch(patch, 40)


def test_open_areas_hold_two_descriptors_each_and_the_older_ones_none(flair_tree: Path) -> None:
    files = list(map(str, series_files(flair_tree).values()))
    open_super_area.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    held = []
    for number in range(100):
        open_super_area(SuperArea(f"D{number:03d}_2020", AREA, *files))
        held.append(len(os.listdir("/proc/self/fd")) - before)
    assert held[31] == 2 * 32
    assert held[-1] <= 1024 / 4
    open_super_area.cache_clear()


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16", "int8"])
def test_masks_of_any_integer_type_become_uint8(tree: Path, dtype: str) -> None:
    path = series_files(tree)["masks"]
    before = np.load(path)
    np.save(path, before.astype(dtype))
    masks = read_superpatch(index_patches(tree, "train")[0], 40).masks
    np.testing.assert_array_equal(masks, before[:, :, 40:80, 35:75], strict=True)


@pytest.mark.parametrize("value", [-1, 101, 256])
def test_masks_that_are_no_probabilities_are_refused(tree: Path, value: int) -> None:
    path = series_files(tree)["masks"]
    masks = np.load(path).astype(np.int16)
    masks[2, 1, 60, 55] = value
    np.save(path, masks)
    patch = index_patches(tree, "train")[0]
    with pytest.raises(DataError, match=f"masks.npy: values .*{value}"):
        read_superpatch(patch, 40)


def test_a_window_is_a_copy(flair_tree: Path) -> None:
    patch = index_patches(flair_tree, "train")[0]
    first = read_superpatch(patch, 40)
    before = [array.copy() for array in (first.data, first.masks, first.dates)]
    first.data[:], first.masks[:], first.dates[:] = 0, 0, 0
    second = read_superpatch(patch, 40)
    for array, expected in zip((second.data, second.masks, second.dates), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_an_odd_window_is_refused(flair_tree: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        read_superpatch(index_patches(flair_tree, "train")[0], 41)


def test_dates_are_days_of_the_calendar(tmp_path: Path) -> None:
    days = [datetime.date(2019, 12, 31), datetime.date(2020, 2, 29), datetime.date(2020, 3, 1)]
    names = [flair_files.product_name(day) for day in days]
    path = tmp_path / "products.txt"
    path.write_bytes(f"{names[0]}.SAFE\r\n{names[1]}\n{names[2]}.SAFE \n\n  \n".encode())
    expected = np.array([(day - datetime.date(1970, 1, 1)).days for day in days], np.int32)
    np.testing.assert_array_equal(read_dates(path), expected, strict=True)


def test_a_sample_gives_every_domain_its_share() -> None:
    sizes = {"D006_2020": 101, "D007_2020": 37, "D008_2019": 3, "D009_2019": 1}
    domains = [domain for domain, size in sizes.items() for _ in range(size)]
    random.Random(0).shuffle(domains)
    patches = [make_patch(Path(), id=f"{i:06d}", domain=domain) for i, domain in enumerate(domains)]
    for seed in range(20):
        sample = sample_patches(patches, 29, seed)
        ids = [patch.id for patch in sample]
        assert len(ids) == 29
        assert ids == sorted(set(ids))
        count = Counter(patch.domain for patch in sample)
        assert all(abs(count[domain] - 29 * size / 142) < 1 for domain, size in sizes.items())
        assert sample == sample_patches(patches[::-1], 29, seed)
    drawn = Counter(patch.id for seed in range(300) for patch in sample_patches(patches, 29, seed))
    assert len(drawn) == 142
    assert sample_patches(patches[::-1], 143, 0) == patches


def test_checks_find_what_headers_show_and_what_only_pixels_show(tree: Path) -> None:
    patches = index_patches(tree, "train", labels=True)
    assert check_patches(patches, labels=True, decode=True, progress=False) == []
    truncate(Path(patches[0].image))
    labels = flair_files.draw_labels(np.random.default_rng(0))
    flair_files.write_raster(Path(patches[1].labels or ""), labels[:256])
    labels[100, 100] = 20
    flair_files.write_raster(Path(patches[2].labels or ""), labels)
    damaged = bytearray(Path(patches[3].image).read_bytes())
    damaged[-3000:] = bytes(3000)
    Path(patches[3].image).write_bytes(damaged)
    masks = np.load(patches[4].super_area.masks)
    masks[0, 0, 0, 0] = 101
    np.save(patches[4].super_area.masks, masks)

    by_header = [str(patches[0].image), str(patches[1].labels)]
    by_pixels = [str(patches[3].image), str(patches[2].labels), patches[4].super_area.masks]

    def found(labels: bool, decode: bool) -> set[str]:
        return {problem.split(": ")[0] for problem in check_patches(patches, labels, decode, progress=False)}

    assert found(labels=True, decode=False) == set(by_header)
    assert found(labels=False, decode=False) == {by_header[0]}
    assert found(labels=True, decode=True) == {*by_header, *by_pixels}
    assert found(labels=False, decode=True) == {by_header[0], by_pixels[0], by_pixels[2]}


def test_only_the_folder_itself_knows_its_modules() -> None:
    """Others import from flair_ingestion.dataset."""
    kit = Path(__file__).resolve().parents[2]
    users = []
    for folder in ("ingestion_program", "starting_kit", "bundle", "benchmarks"):
        sources = [*(kit / folder).rglob("*.py"), *(kit / folder).rglob("*.ipynb")]
        others = [path for path in sources if path.parent.name != "dataset"]
        users += [path for path in others if "flair_ingestion.dataset." in path.read_text()]
    assert users == []
