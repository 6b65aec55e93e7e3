"""The Sentinel-2 series of super-areas: their three files are checked, and windows are cut out of them.

A super-area is an area of aerial patches with a margin of 512 m on each side (data paper, "Sentinel-2 data").
"""

from __future__ import annotations

import datetime
import functools
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from flair_scoring.base.errors import DataError, list_names

BANDS = 10  # B2 B3 B4 B5 B6 B7 B8 B8A B11 B12
MASKS = 2  # snow, cloud
CENTRE = 10  # side in 10 m pixels of what the aerial patch covers; the super-area must hold all of it
MAX_PROBABILITY = 100  # per cent
# Areas that a process keeps open: more than an order has open at a time. Each takes two file descriptors, for
# data and masks; many systems allow 1024.
_CACHED_AREAS = 48
_BLOCK = 1 << 20  # bytes read at a time; larger blocks do not fit into the processor's cache
_PRODUCT = re.compile(r"[^_]*_[^_]*_(\d{4})(\d{2})(\d{2})T\d{6}(?![^_])", re.ASCII)
# numpy reads the header of a npy file with Python's own tokenizer and parser
_NPY_ERRORS = (OSError, ValueError, OverflowError, SyntaxError, TokenError, MemoryError, RecursionError)
_INTEGERS = tuple(np.dtype(code) for code in np.typecodes["AllInteger"])


@dataclass(frozen=True, slots=True)
class SuperArea:
    """An area, and the paths of its series: data and masks (npy), and the names of the products (text)."""

    domain: str
    area: str
    data: str
    masks: str
    products: str


@dataclass(frozen=True, slots=True, eq=False)
class SuperPatch:
    """The series of T dates in a window of S x S pixels of 10 m around a patch.

    Attributes:
        data: uint16 (T, 10, S, S), reflectance x 10000 as stored; bands B2 B3 B4 B5 B6 B7 B8 B8A B11 B12.
        masks: uint8 (T, 2, S, S), probabilities of snow and of cloud in per cent, 0..100.
        dates: int32 (T,), days since 1970-01-01.
    """

    data: np.ndarray
    masks: np.ndarray
    dates: np.ndarray


def read_dates(products: str | Path) -> np.ndarray:
    """Read the acquisition dates of a series from the names of its Sentinel-2 products.

    The date is the third field of a name: S2A_MSIL2A_20210415T105021_… is of 15 April 2021.

    Args:
        products: Text file with one name per line, such as `patch.super_area.products`.

    Returns:
        int32 (T,), days since 1970-01-01, in the order of the lines.

    Raises:
        DataError: The file cannot be read, is empty, or has lines without a date; the message names these.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches, read_dates
        >>> dates = read_dates(index_patches(Path("data"), "test")[0].super_area.products)
        >>> dates.astype("datetime64[D]")[:2]
        array(['2020-01-20', '2020-03-09'], dtype='datetime64[D]')
    """
    try:
        lines = Path(products).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except OSError as error:
        raise DataError(f"{products}: cannot be read ({error.strerror})") from None
    dates = [_parse_date(line) for line in lines]
    if None in dates or not lines:
        bad = [f"line {i} ({line[:80]!r})" for i, line in enumerate(lines, 1) if not dates[i - 1]]
        where = list_names(bad) or "an empty file"
        raise DataError(f"{products}: no date in {where}; expected names as S2A_MSIL2A_20210415T105021_…")
    return np.array(dates, dtype="datetime64[D]").astype(np.int32)


def _parse_date(product: str) -> datetime.date | None:
    match = _PRODUCT.match(product)
    try:
        return datetime.date(*map(int, match.groups())) if match else None
    except ValueError:  # no such day
        return None


def inspect_super_area(area: SuperArea) -> tuple[list[str], tuple[int, int] | None]:
    """The problems that headers and sizes of an area's files show, and (H, W) of its series if known."""
    paths = (area.data, area.masks, area.products)
    missing = [os.path.basename(path) for path in paths if not os.path.isfile(path)]
    if missing:
        return [f"{os.path.dirname(area.data)}: lacks {', '.join(missing)}; unpack the archive again"], None
    problems: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for path, read in zip(paths, (_open_data, _open_masks, read_dates), strict=True):
        try:
            shapes.append(read(path).shape)
        except DataError as error:
            problems.append(str(error))
            shapes.append(())
    data, masks, dates = shapes
    if data and masks and (data[0], *data[2:]) != (masks[0], *masks[2:]):
        problems.append(f"{area.masks}: shape {masks} does not fit the data's {data}; T, H, W must agree")
    if data and dates and data[0] != dates[0]:
        problems.append(f"{area.products}: {dates[0]} products, but the data has {data[0]} dates")
    return problems, (data[2], data[3]) if data else None


@functools.lru_cache(maxsize=_CACHED_AREAS)
def open_super_area(area: SuperArea) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory maps of data (T, 10, H, W) and masks (T, 2, H, W), and dates (T,).

    The areas that were used last stay open. Raises DataError if a file is missing or damaged.
    """
    return _open_data(area.data), _open_masks(area.masks), read_dates(area.products)


def read_ahead(area: SuperArea) -> None:
    """Read data and masks into the page cache, so that windows of them need not wait for the disk.

    A file that cannot be read is passed over: whoever needs it tells what is wrong.
    """
    # The kernel's own way (WILLNEED) brings only the first few MB, and returns before they are there
    block = bytearray(_BLOCK)
    for path in (area.data, area.masks):
        with suppress(OSError), open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass


def cut_super_patch(area: SuperArea, centre: tuple[int, int], size: int, copy: bool = True) -> SuperPatch:
    """The window of `size` x `size` pixels that begins at centre - size / 2 in both directions.

    Outside the super-area the pixels of its edge are repeated. Without `copy` the data may be a read-only
    view of the file. Raises DataError if the masks hold values outside 0..100, ValueError if `size` is odd.
    """
    if size < 2 or size % 2:
        raise ValueError(f"window of {size} pixels; expected an even number")
    data, masks, dates = open_super_area(area)
    probabilities = _cut(masks, centre, size)
    _check_probabilities(probabilities, area.masks)
    window = _cut(data, centre, size, copy)
    return SuperPatch(window, probabilities.astype(np.uint8, copy=False), dates.copy())


def check_masks(area: SuperArea) -> None:
    """Read all probabilities of an area; raises DataError if some are outside 0..100."""
    _check_probabilities(_open_masks(area.masks), area.masks)


def _cut(array: np.ndarray, centre: tuple[int, int], size: int, copy: bool = True) -> np.ndarray:
    """The window of the last two axes, or a copy of it; only the pixels inside the window are read."""
    inside: list[slice] = []
    outside: list[tuple[int, int]] = []
    for middle, length in zip(centre, array.shape[2:], strict=True):
        start, stop = middle - size // 2, middle + size // 2
        inside.append(slice(max(start, 0), min(stop, length)))
        outside.append((max(-start, 0), max(stop - length, 0)))
    window = array[:, :, inside[0], inside[1]]
    if any(map(any, outside)):
        return np.pad(window, [(0, 0), (0, 0), *outside], mode="edge")
    return window.copy() if copy else window


def _open_data(path: str) -> np.ndarray:
    return _open_array(path, BANDS, (np.dtype(np.uint16),), "uint16")


def _open_masks(path: str) -> np.ndarray:
    return _open_array(path, MASKS, _INTEGERS, "integers")


def _open_array(path: str, bands: int, dtypes: tuple[np.dtype, ...], expected: str) -> np.ndarray:
    """Memory map of a npy file (T, bands, H, W); DataError if header or size of the file show another."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except _NPY_ERRORS as error:
        raise DataError(f"{path}: not a whole npy file ({error}); unpack the archive again") from None
    if array.ndim != 4 or array.shape[1] != bands or 0 in array.shape:
        raise DataError(f"{path}: shape {array.shape}; expected (T, {bands}, H, W)")
    if array.dtype not in dtypes:
        raise DataError(f"{path}: dtype {array.dtype}; expected {expected}")
    size = os.path.getsize(path)
    if size != array.offset + array.nbytes:
        raise DataError(f"{path}: {size} bytes, but its header announces {array.offset + array.nbytes}")
    return array.view(np.ndarray)


def _check_probabilities(masks: np.ndarray, path: str) -> None:
    low, high = int(masks.min()), int(masks.max())
    if low < 0 or high > MAX_PROBABILITY:
        raise DataError(f"{path}: values {low}..{high}; expected probabilities of snow and cloud, 0..100")
