"""Patches of FLAIR #2: their index, what is read of them, samples and checks of them."""

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
    """Aerial image, uint8 (5, 512, 512): R, G, B, NIR, height in steps of 0.2 m. Raises DataError."""
    return _with_path(read_raster, patch.image, IMAGE_BANDS)


def read_labels(patch: Patch) -> np.ndarray:
    """Annotation, uint8 (512, 512), values 0..19, of a patch indexed with labels. Raises DataError."""
    if patch.labels is None:
        raise ValueError(f"patch {patch.id} was indexed without labels")
    labels = _with_path(read_raster, patch.labels, 1)
    if labels.max() > MAX_FLAIR_VALUE:
        raise DataError(f"{patch.labels}: value {labels.max()}; expected 1 to {MAX_FLAIR_VALUE}")
    return labels


def read_superpatch(patch: Patch, size: int, copy: bool = True) -> SuperPatch:
    """The series in the window of `size` x `size` pixels of 10 m around the patch; `size` is even.

    Without `copy` its data may be a read-only view of the file.
    """
    if patch.centroid is None:
        raise ValueError(f"patch {patch.id} was indexed without its series")
    return cut_super_patch(patch.super_area, patch.centroid, size, copy)


def sample_patches(patches: Sequence[Patch], count: int, seed: int) -> list[Patch]:
    """A random sample, by id, in which every domain has its share up to rounding; all, if `count` is more.

    Systematic sampling: of the domains one after the other, every (N / count)-th patch from a random start.
    """
    in_order = sorted(patches, key=lambda patch: patch.id)
    if count >= len(in_order):
        return in_order
    generator = np.random.default_rng(seed)
    shuffled = [in_order[place] for place in generator.permutation(len(in_order))]
    by_domain = sorted(shuffled, key=lambda patch: patch.domain)
    places = (np.arange(count) + generator.random()) * len(in_order) / count
    return sorted((by_domain[int(place)] for place in places), key=lambda patch: patch.id)


def check_patches(
    patches: Sequence[Patch], labels: bool, decode: bool, progress: bool, nodata: Nodata | None = None
) -> list[str]:
    """What is wrong with the images, and with the labels if wanted and indexed, by their headers.

    With `decode`: by all their pixels, and the series and their masks are read as well; `nodata` gets
    the counts of pixels without data.
    """
    checks: list[Callable[[], object]] = []
    if decode:
        checks += [functools.partial(_count_image, patch) for patch in patches]
        checks += [functools.partial(_check_labels, patch) for patch in patches if labels and patch.labels]
        areas = dict.fromkeys(patch.super_area for patch in patches)
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
