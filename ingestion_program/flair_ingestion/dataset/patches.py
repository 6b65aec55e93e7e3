"""What is done with indexed patches: their rasters and series are read and checked, samples are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from flair_ingestion.dataset.index import Patch
from flair_ingestion.dataset.nodata import Nodata, check_annotation, count_image, count_series
from flair_ingestion.dataset.superarea import (
    SuperPatch,
    check_masks,
    cut_super_patch,
)
from flair_scoring.base.errors import DataError
from flair_scoring.nomenclature import MAX_FLAIR_VALUE
from flair_scoring.raster import RasterError, check_raster, read_raster

IMAGE_BANDS = 5
_Result = TypeVar("_Result")


def read_image(patch: Patch) -> np.ndarray:
    """Read the aerial image of a patch.

    Args:
        patch: A patch from `index_patches`.

    Returns:
        uint8 (5, 512, 512): red, green, blue, near infrared, and elevation in steps of 0.2 m.

    Raises:
        DataError: The file cannot be read, or it is no uint8 raster of that shape.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches, read_image
        >>> image = read_image(index_patches(Path("data"), "test")[0])
        >>> image.shape, image.dtype
        ((5, 512, 512), dtype('uint8'))
    """
    return _with_path(read_raster, patch.image, IMAGE_BANDS)


def read_labels(patch: Patch) -> np.ndarray:
    """Read the annotation of a patch.

    Args:
        patch: A patch from `index_patches(…, labels=True)`.

    Returns:
        uint8 (512, 512), FLAIR values: 1..19 are classes. Sound data hold no 0; it counts as other.

    Raises:
        DataError: The file cannot be read, is no uint8 raster of that shape, or holds a value above 19.
        ValueError: The patch was indexed without labels.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches, read_labels
        >>> labels = read_labels(index_patches(Path("data"), "val", labels=True)[0])
        >>> labels.shape, bool(labels.max() <= 19)
        ((512, 512), True)
    """
    if patch.labels is None:
        raise ValueError(f"patch {patch.id} was indexed without labels")
    labels = _with_path(read_raster, patch.labels, 1)
    if labels.max() > MAX_FLAIR_VALUE:
        raise DataError(f"{patch.labels}: value {labels.max()}; expected 1 to {MAX_FLAIR_VALUE}")
    return labels


def read_superpatch(patch: Patch, size: int, copy: bool = True) -> SuperPatch:
    """Read the Sentinel-2 series of a square window around a patch.

    Args:
        patch: A patch from `index_patches`.
        size: Side of the window in pixels of 10 m; an even number. The patch itself covers 10 x 10 of them.
            Where the window leaves the super-area, the pixels of its edge are repeated.
        copy: False saves time if few of the dates are needed: the data may then be a read-only view of the
            file.

    Returns:
        The reflectances, masks and dates of the window; `SuperPatch` says their shapes and units.

    Raises:
        DataError: A file cannot be read, or a mask holds values outside 0..100.
        ValueError: `size` is odd, or the patch was indexed without its series.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches, read_superpatch
        >>> series = read_superpatch(index_patches(Path("data"), "test")[0], 40)
        >>> series.data.shape, series.masks.shape, series.dates.shape
        ((5, 10, 40, 40), (5, 2, 40, 40), (5,))
    """
    if patch.centroid is None:
        raise ValueError(f"patch {patch.id} was indexed without its series")
    return cut_super_patch(patch.super_area, patch.centroid, size, copy)


def sample_patches(patches: Sequence[Patch], count: int, seed: int) -> list[Patch]:
    """Draw a random sample in which every domain has its share, up to rounding.

    The sampling is systematic: the patches of each domain are shuffled, the domains follow each other, and
    every (N / count)-th of all N patches is taken, from a random start.

    Args:
        patches: Patches of any domains, in any order.
        count: Number of patches to draw. If there are not more than that, all are returned.
        seed: Equal seeds draw equal samples.

    Returns:
        The sample in the order of the ids.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches, sample_patches
        >>> sample = sample_patches(index_patches(Path("data"), "train"), 3, seed=2022)
        >>> [patch.domain for patch in sample]
        ['D006_2020', 'D007_2020', 'D008_2019']
    """
    in_order = sorted(patches, key=lambda patch: patch.id)
    if count >= len(in_order):
        return in_order
    generator = np.random.default_rng(seed)
    shuffled = [in_order[index] for index in generator.permutation(len(in_order))]
    by_domain = sorted(shuffled, key=lambda patch: patch.domain)
    indices = (np.arange(count) + generator.random()) * len(in_order) / count
    return sorted((by_domain[int(index)] for index in indices), key=lambda patch: patch.id)


def check_patches(
    patches: Sequence[Patch], labels: bool, decode: bool, progress: bool, nodata: Nodata | None = None
) -> list[str]:
    """Check the files of patches, and list what is wrong with them.

    Args:
        patches: Patches from `index_patches` or `scan_split`.
        labels: Whether annotations are checked too; a patch that was indexed without labels is passed over.
        decode: True reads all pixels of the rasters, and all series and masks unless the patches were indexed
            without series. False reads the headers of the rasters only.
        progress: Whether a progress bar is shown on stderr.
        nodata: With `decode`, the counts of pixels without data are added to it.

    Returns:
        The problems, one sentence for each file that has one.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import check_patches, index_patches
        >>> patches = index_patches(Path("data"), "val", labels=True)
        >>> check_patches(patches, labels=True, decode=False, progress=False)
        []
    """
    checks: list[Callable[[], object]] = []
    if decode:
        checks += [functools.partial(_count_image, patch) for patch in patches]
        checks += [functools.partial(_check_labels, patch) for patch in patches if labels and patch.labels]
        areas = dict.fromkeys(patch.super_area for patch in patches if patch.centroid)
        checks += [functools.partial(check, area) for area in areas for check in (check_masks, count_series)]
    else:
        files = [(patch.image, IMAGE_BANDS) for patch in patches]
        files += [(patch.labels, 1) for patch in patches if labels and patch.labels]
        checks += [functools.partial(_with_path, check_raster, *file) for file in files]
    with ThreadPool() as pool:
        found = pool.imap(_try, checks, chunksize=16)
        bar = tqdm(found, "checking", len(checks), unit="file", dynamic_ncols=True, disable=not progress)
        problems = []
        for result in bar:
            if isinstance(result, DataError):
                problems.append(str(result))
            elif isinstance(result, Nodata) and nodata:
                nodata.add(result)
        return problems


def _count_image(patch: Patch) -> Nodata:
    return count_image(read_image(patch), patch.image)


def _check_labels(patch: Patch) -> None:
    check_annotation(read_labels(patch), str(patch.labels))


def _try(check: Callable[[], object]) -> object:
    """The result of a check, or its DataError."""
    try:
        return check()
    except DataError as error:
        return error


def _with_path(read: Callable[[str, int], _Result], path: str, bands: int) -> _Result:
    try:
        return read(path, bands)
    except RasterError as error:
        raise DataError(f"{path}: {error}") from None
