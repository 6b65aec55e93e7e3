"""Rasters are read as rasterio and Pillow read them, and everything else is refused with the reason."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

from flair_scoring.raster import RasterError, check_raster, encode_labels, read_raster, write_labels

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LABELS = np.random.default_rng(0).integers(0, 13, (64, 64), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
IMAGE = np.random.default_rng(1).integers(0, 256, (5, 64, 64), dtype=np.uint8).repeat(8, 1).repeat(8, 2)


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write (512, 512) or (bands, H, W) pixels with rasterio."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    bands, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=pixels.dtype, **options
        ) as file:
            file.write(pixels)
    return path


LAYOUTS = [
    {},
    {"blockysize": 100},
    {"tiled": True, "blockxsize": 256, "blockysize": 128},
    {"tiled": True, "blockxsize": 1024, "blockysize": 1024},
    {"endianness": "big"},
    {"bigtiff": "yes"},
    {"bigtiff": "yes", "endianness": "big", "tiled": True, "blockxsize": 64, "blockysize": 64},
]


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_reads_every_lossless_tiff(tmp_path: Path, compress: str, layout: dict[str, Any]) -> None:
    path = write(tmp_path / "labels.tif", LABELS, compress=compress, **layout)
    check_raster(path)
    np.testing.assert_array_equal(read_raster(path), LABELS)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(
    "options", [{}, {"compress": "zstd", "predictor": 2}, {"photometric": "rgb"}, *LAYOUTS[1:5]], ids=str
)
def test_reads_images_of_both_band_orders(tmp_path: Path, interleave: str, options: dict[str, Any]) -> None:
    path = write(tmp_path / "image.tif", IMAGE, interleave=interleave, **options)
    check_raster(path, bands=5)
    np.testing.assert_array_equal(read_raster(path, bands=5), IMAGE)


def test_reads_into_a_given_array(tmp_path: Path) -> None:
    out = np.full((512, 512), 99, np.uint8)
    assert read_raster(write(tmp_path / "labels.tif", LABELS), out=out) is out
    np.testing.assert_array_equal(out, LABELS)


def test_written_labels_are_read_by_others(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.tif", LABELS)
    np.testing.assert_array_equal(Image.open(tmp_path / "labels.tif"), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "labels.tif") as file:
            assert file.profile["compress"] == "lzw"
            np.testing.assert_array_equal(file.read(1), LABELS)


def pages(path: Path) -> None:
    image = Image.fromarray(LABELS)
    image.save(path, "TIFF", save_all=True, append_images=[image])


def rotated(path: Path) -> None:
    Image.fromarray(LABELS).save(path, "TIFF", tiffinfo={274: 3})


def overviews(path: Path) -> None:
    write(path, LABELS)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)


def mask_band(path: Path) -> None:
    write(path, LABELS)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(LABELS > 0)


def numpy_file(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, LABELS)


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 44510\n"
ONE_HOT = (np.arange(13)[:, None, None] == LABELS).astype(np.uint8)  # (13, 512, 512)


def palette(path: Path) -> None:
    Image.fromarray(LABELS).convert("P").save(path, "TIFF")


def patched(tag: int, value: int, **options: Any) -> Callable[[Path], object]:
    """Labels as TIFF whose header has another value, 32 bits, for one tag."""

    def make(path: Path) -> None:
        content = bytearray(write(path, LABELS, **options).read_bytes())
        (start,) = struct.unpack_from("<I", content, 4)
        (entries,) = struct.unpack_from("<H", content, start)
        offsets = range(start + 2, start + 2 + 12 * entries, 12)
        (entry,) = [offset for offset in offsets if struct.unpack_from("<H", content, offset) == (tag,)]
        struct.pack_into("<HII", content, entry + 2, 4, 1, value)
        path.write_bytes(content)

    return make


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "folder": (lambda path: path.mkdir(), "is a folder; expected a file"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file"),
    "pipe": (os.mkfifo, "is a pipe or a device; expected a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device; expected a file"),
    "empty": (lambda path: path.touch(), "is empty; write it again"),
    "text": (lambda path: path.write_text("no raster at all"), "is not a TIFF file"),
    "png": (lambda path: Image.fromarray(LABELS).save(path, "PNG"), "is a PNG image; expected a TIFF"),
    "numpy": (numpy_file, "is a numpy array; expected a TIFF"),
    "git-lfs": (lambda path: path.write_text(LFS_POINTER), "is a git-lfs pointer"),
    "web page": (lambda path: path.write_text("<!doctype html>\n<title>404</title>"), "is a web page"),
    "small": (lambda path: write(path, LABELS[:256, :256]), "has size 256 x 256; expected 512 x 512"),
    "uint16": (lambda path: write(path, LABELS.astype(np.uint16)), "has data type uint16; expected uint8"),
    "int8": (lambda path: write(path, LABELS.astype(np.int8)), "has data type int8; expected uint8"),
    "float": (lambda path: write(path, LABELS.astype(np.float32)), "has data type float32; expected uint8"),
    "argmax": (lambda path: write(path, LABELS.astype(np.int64)), "has data type int64; expected uint8"),
    "argmax, packed": (
        lambda path: write(path, LABELS.astype(np.int64), compress="lzw"),
        "has data type int64; expected uint8: labels.astype(numpy.uint8)",
    ),
    "one-hot": (
        lambda path: write(path, ONE_HOT),
        "has band count 13; expected 1: one class index per pixel",
    ),
    "one-hot, float": (lambda path: write(path, ONE_HOT.astype(np.float64)), "has band count 13; expected 1"),
    "large": (lambda path: write(path, np.tile(LABELS, (4, 4))), "has size 2048 x 2048; expected 512 x 512"),
    "long BigTIFF": (lambda path: write(path, LABELS.astype(np.int64), bigtiff="yes"), "has data type int64"),
    "one bit": (
        lambda path: Image.fromarray(LABELS > 5).save(path, "TIFF"),
        "has data type uint1; expected uint8",
    ),
    "three bands": (lambda path: write(path, IMAGE[:3]), "has band count 3; expected 1"),
    "palette": (palette, "has photometric interpretation 3; expected 1"),
    "inverted": (
        lambda path: write(path, LABELS, photometric="miniswhite"),
        "has photometric interpretation 0",
    ),
    "pages": (pages, "has more than one page"),
    "jpeg": (
        lambda path: write(path, LABELS, compress="jpeg"),
        "has compression 7; expected one of 1 none, 5 LZW",
    ),
    "webp": (patched(259, 50001), "has compression 50001"),
    "rotated": (rotated, "has orientation 3; expected 1"),
    "bomb": (patched(257, 2**31), "has size 512 x 2147483648"),
    "tile bomb": (patched(322, 2**30, tiled=True, blockxsize=512, blockysize=512), "has tiles of 1073741824"),
    "overviews": (overviews, "has overviews beside the image; write it again without them"),
    "mask": (mask_band, "has a mask beside the image; write it again without it"),
    "sparse": (
        lambda path: write(path, 0 * LABELS, sparse_ok="true", blockysize=16),
        "is incomplete: 32 of 32 strips or tiles are left out; write it again without GDAL's SPARSE_OK",
    ),
    "too few strips": (
        patched(278, 100, blockysize=256),
        "has a header with more or fewer than the expected 6 strips",
    ),
    "long": (
        lambda path: path.write_bytes(encode_labels(LABELS) + bytes(2 << 20)),
        "bytes; expected at most 2097152",
    ),
    "two bytes": (
        lambda path: path.write_bytes(b"II"),
        "has 2 bytes, too few for a TIFF file; write it again",
    ),
    "one byte": (lambda path: path.write_bytes(b"I"), "has 1 byte, too few for a TIFF file; write it again"),
    "offset beyond the end": (patched(273, 1 << 30, blockysize=512), "is truncated"),
    "no header": (lambda path: path.write_bytes(b"II*\0\xff\xff\xff\xff"), "has a damaged TIFF header"),
}


@pytest.mark.parametrize("reader", [read_raster, check_raster])
@pytest.mark.parametrize("fault", REFUSED)
def test_refuses_what_is_no_label_map(tmp_path: Path, fault: str, reader: Callable[[Path], object]) -> None:
    make, sentence = REFUSED[fault]
    make(tmp_path / "labels.tif")
    with pytest.raises(RasterError) as caught:
        reader(tmp_path / "labels.tif")
    assert sentence in str(caught.value)


def test_a_long_file_whose_header_claims_more_than_memory_holds_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.tif", LABELS, bigtiff="yes", blockysize=512)
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<Q", content, 8)
    (entries,) = struct.unpack_from("<Q", content, start)
    for offset in range(start + 8, start + 8 + 20 * entries, 20):
        if struct.unpack_from("<H", content, offset) in ((273,), (279,)):  # strip offsets and sizes
            struct.pack_into("<HQQ", content, offset + 2, 16, 1 << 32, 0)
    path.write_bytes(content)
    os.truncate(path, 1 << 36)  # a hole: no byte of the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RasterError, match="more or fewer than the expected 1 strips"):
        read_raster(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate", "zstd"])
def test_refuses_every_truncation(tmp_path: Path, compress: str) -> None:
    content = write(tmp_path / "whole.tif", LABELS, compress=compress).read_bytes()
    path = tmp_path / "cut.tif"
    for length in [*range(0, len(content) - 1, 1 + len(content) // 50), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(RasterError):
            read_raster(path)


@pytest.mark.parametrize("compress", ["lzw", "deflate", "zstd", "packbits", "lzma"])
def test_refuses_damaged_pixels(tmp_path: Path, compress: str) -> None:
    path = write(tmp_path / "labels.tif", LABELS, compress=compress)
    content = bytearray(path.read_bytes())
    content[-200:] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(RasterError, match="cannot be decoded"):
        read_raster(path)


def shorten(path: Path, stored: bool) -> None:
    """Replace the last deflate strip or tile by one with half its bytes, or by one that claims too many."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count, value = struct.unpack_from("<HHII", content, entry)
        kinds = {3: "H", 4: "I"}
        if tag in (273, 279, 324, 325):
            size = struct.calcsize(f"<{count}{kinds[kind]}")
            offset = value if size > 4 else entry + 8
            tags[tag] = struct.unpack_from(f"<{count}{kinds[kind]}", content, offset)
    offsets, sizes = tags.get(273) or tags[324], tags.get(279) or tags[325]
    offset, size = offsets[-1], sizes[-1]
    pixels = zlib.decompress(content[offset : offset + size])
    half = pixels[: len(pixels) // 2]
    packer = zlib.compressobj(9)
    # A stored block that claims 65,535 bytes, more than there is room for: libdeflate writes none of them
    shorter = packer.compress(half) + (
        packer.flush(zlib.Z_FULL_FLUSH) + b"\x00\xff\xff\x00\x00" if stored else packer.flush()
    )
    assert len(shorter) <= size
    content[offset : offset + size] = shorter.ljust(size, b"\0")
    path.write_bytes(content)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("bands", [1, 5])
@pytest.mark.parametrize(
    "layout",
    [
        {"blockysize": 512},
        {"blockysize": 100},
        {"blockysize": 512, "interleave": "pixel"},
        {"blockysize": 512, "predictor": 2},
        {"tiled": True, "blockxsize": 256, "blockysize": 256},
    ],
    ids=str,
)
def test_a_deflate_stream_that_ends_early_is_damage(
    tmp_path: Path, layout: dict[str, Any], bands: int, stored: bool
) -> None:
    """Without a check the file would keep what the buffer held before: the pixels of another file."""
    pixels = IMAGE if bands == 5 else LABELS
    path = write(tmp_path / "a.tif", np.minimum(pixels, 254), compress="deflate", **{"zlevel": 1, **layout})
    out = np.zeros((512, 512), np.uint8) if bands == 1 else None
    read_raster(path, bands, out)
    shorten(path, stored)
    with pytest.raises(RasterError, match=r"cannot be decoded .*; the file is damaged, write it again"):
        read_raster(path, bands, out)


@pytest.mark.parametrize("layout", [{"blockysize": 8}, {"predictor": 2}, {"blockysize": 100}], ids=str)
def test_deflate_files_that_end_with_255_are_whole(tmp_path: Path, layout: dict[str, Any]) -> None:
    image = IMAGE.copy()
    image[:, :, -1] = 255
    for interleave in ("band", "pixel"):
        path = write(tmp_path / "a.tif", image, compress="deflate", interleave=interleave, **layout)
        np.testing.assert_array_equal(read_raster(path, 5), image)


@pytest.fixture(scope="module")
def tiffs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tiffs")
    return [write(folder / f"{big}.tif", LABELS, bigtiff=big, compress="lzw") for big in ("no", "yes")]


@settings(max_examples=300, deadline=None)
@given(
    big=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_changed_header_is_read_or_refused_but_crashes_nothing(
    tiffs: list[Path], big: bool, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(tiffs[big].read_bytes())
    for position, value in changes:
        content[position] = value
    path = tiffs[big].with_name("changed.tif")
    path.write_bytes(content)
    with contextlib.suppress(RasterError):
        assert read_raster(path).shape == (512, 512)


def test_real_patches_are_read_as_by_rasterio(real_data: Path) -> None:
    paths = sorted((real_data / "flair2_real_patches").rglob("*.tif"))
    assert len(paths) == 6
    for path in paths:
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(np.atleast_3d(read_raster(path, file.count).T).T, file.read())


def test_the_official_sample_submission_is_read_as_by_pillow(real_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(real_data / "flair1_sample_submission.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".tif")]
        assert len(names) == 50
        for name in names:
            path = Path(archive.extract(name, tmp_path))
            np.testing.assert_array_equal(read_raster(path), Image.open(path))
    ours = Image.open(io.BytesIO(encode_labels(LABELS)))
    theirs = Image.open(path)
    fixed = (256, 257, 258, 259, 262, 278, 284)
    assert ours.tag_v2.keys() == theirs.tag_v2.keys()
    assert [ours.tag_v2[tag] for tag in fixed] == [theirs.tag_v2[tag] for tag in fixed]
