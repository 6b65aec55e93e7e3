"""The index of a split: its patches, each with its image, labels, series and json entries, matched by id."""

from __future__ import annotations

import functools
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_ingestion.dataset.layout import (
    find_names,
    find_root,
    list_domains,
    require_roots,
    root_names,
)
from flair_ingestion.dataset.sidecars import (
    CENTROIDS,
    METADATA,
    Sidecar,
    look_up,
    parse_centroid,
    parse_metadata,
    read_sidecar,
)
from flair_ingestion.dataset.superarea import CENTRE, SuperArea, inspect_super_area
from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.pairing import AREA

_IMAGE = re.compile(r"IMG_\d{6}\.tif", re.ASCII)
_LABELS = re.compile(r"MSK_\d{6}\.tif", re.ASCII)


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch of 512 x 512 pixels of 0.2 m: where its files are, and what the json files say of it.

    Attributes:
        id: Six digits, such as "077413".
        domain: Such as "D015_2020".
        area: Such as "Z1_UF".
        image: Path of the aerial image.
        labels: Path of the annotation; None unless it was asked for.
        super_area: The area with the Sentinel-2 series; its files may be absent if no series was asked for.
        centroid: (row, column) of the patch's centre in the series; None if no series was asked for.
        metadata: date, time, patch_centroid_x, patch_centroid_y, patch_centroid_z and camera as in the json
            file; None where an entry is absent or was not asked for.
    """

    id: str
    domain: str
    area: str
    image: str
    labels: str | None
    super_area: SuperArea
    centroid: tuple[int, int] | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Sources:
    """The folders and json files of a split.

    A source is None if it is not wanted, or if it is missing; a missing source is reported once. `series` and
    `described` tell whether series and metadata are wanted. Without `series`, `sentinel` need not exist.
    """

    series: bool
    described: bool
    aerial: Path | None
    sentinel: Path | None
    labels: Path | None
    centroids: Sidecar | None
    metadata: Sidecar | None


def index_patches(
    data: Path, split: str, labels: bool = False, series: bool = True, metadata: bool = True
) -> list[Patch]:
    """Index the patches of a split.

    The names of the files, the json entries and the headers of the series are checked. Rasters are not
    opened; `check_patches` does that. What is not asked for may be absent.

    Args:
        data: Folder with the unpacked archives of FLAIR #2.
        split: "train", "val" or "test". Train and val share their folders and are told apart by domain.
        labels: Whether the patches need an annotation.
        series: Whether they need a Sentinel-2 series and their position in it.
        metadata: Whether they need their metadata.

    Returns:
        The patches in the order of their ids.

    Raises:
        UsageError: There is no folder `data`, or no split of that name.
        DataError: Files are missing or damaged. The message lists all problems of the split.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import index_patches
        >>> patches = index_patches(Path("data"), "train", labels=True)
        >>> patches[0].id, patches[0].domain, patches[0].area
        ('000001', 'D006_2020', 'Z1_UF')
    """
    patches, problems = scan_split(data, split, labels, series, metadata)
    if problems:
        raise DataError(list_problems(f"{data}: the {split} split is incomplete or damaged", problems))
    return patches


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Switch Python's garbage collector off: it would walk hundreds of thousands of entries that all stay."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_collection_paused()
def scan_split(
    data: Path, split: str, labels: bool = False, series: bool = True, metadata: bool = True
) -> tuple[list[Patch], list[str]]:
    """Index a split as `index_patches` does, but return its problems instead of raising them.

    Args:
        data, split, labels, series, metadata: As in `index_patches`.

    Returns:
        The patches that have all that is asked for, in the order of their ids, and all problems of the split.

    Raises:
        UsageError: There is no folder `data`, or no split of that name.
        DataError: `data` has no folder of any archive.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import scan_split
        >>> patches, problems = scan_split(Path("data"), "test", labels=True)
        >>> len(patches), problems
        (6, [])
    """
    require_roots(data)
    problems: list[str] = []
    sources = _Sources(
        series=series,
        described=metadata,
        aerial=find_root(data, "aerial", split, problems),
        sentinel=find_root(data, "sen", split, problems) if series else data / root_names("sen", split)[0],
        labels=find_root(data, "labels", split, problems) if labels else None,
        centroids=read_sidecar(data, CENTROIDS, problems) if series else None,
        metadata=read_sidecar(data, METADATA, problems) if metadata else None,
    )
    images = _find_images(sources.aerial, split, problems) if sources.aerial else {}
    if sources.labels and sources.aerial:
        problems += _find_lone_labels(sources.labels, sources.aerial, split, images)
    patches: list[Patch] = []
    for (domain, area), paths in images.items():
        patches += _scan_area(sources, domain, area, paths, problems)
    return sorted(patches, key=lambda patch: patch.id), problems


def labels_folder(data: Path, split: str) -> Path:
    """Find the folder with the labels of a split.

    Args:
        data: Folder with the unpacked archives of FLAIR #2.
        split: "train", "val" or "test". Train and val share their folder.

    Returns:
        The folder, which has the name that IGN or the toy data set gives it.

    Raises:
        UsageError: There is no split of that name.
        DataError: There is no such folder, there are two, or its content is still packed.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import labels_folder
        >>> labels_folder(Path("data"), "test").name
        'flair_2_labels_test'
    """
    problems: list[str] = []
    root = find_root(data, "labels", split, problems)
    if root is None:
        raise DataError(problems[0])
    return root


def _find_images(root: Path, split: str, problems: list[str]) -> dict[tuple[str, str], dict[str, str]]:
    """(domain, area) -> id -> path of the image. Empty folders and ids that occur twice become problems."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    paths: dict[str, str] = {}
    for domain, area in _find_areas(root, split, problems):
        images = found[domain, area] = _list_files(f"{root}/{domain}/{area}/img", _IMAGE)
        if not images:
            problems.append(f"{root}/{domain}/{area}/img: missing or without images IMG_<6 digits>.tif")
        twins = paths.keys() & images.keys()
        problems += [f"{images[id]}: the id {id} is taken by {paths[id]}" for id in sorted(twins)]
        paths |= images
    return found


def _find_areas(root: Path, split: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    """(domain, area) of every area of the split; folders with other names are ignored."""
    domains = list_domains(root, split)
    if not domains:
        example = "D004_2021" if split == "val" else "D006_2020"
        problems.append(f"{root}: no domains of the {split} split (folders such as {example})")
    for domain in domains:
        areas = find_names(f"{root}/{domain}", AREA)
        if not areas:
            problems.append(f"{root}/{domain}: no areas (folders such as Z1_UF)")
        yield from ((domain, area) for area in areas)


def _find_lone_labels(
    labels: Path, aerial: Path, split: str, images: dict[tuple[str, str], dict[str, str]]
) -> Iterator[str]:
    """Problems: labels without their images. One per area, or one per domain if that has no images at all."""
    for domain in list_domains(labels, split):
        lone = {}
        for area in find_names(labels / domain, AREA):
            masks = _list_files(f"{labels}/{domain}/{area}/msk", _LABELS)
            if ids := sorted(masks.keys() - images.get((domain, area), {}).keys()):
                lone[area] = ids
        if lone and not (aerial / domain).is_dir():
            ids = [id for ids in lone.values() for id in ids]
            yield _describe_lone_labels(labels / domain, ids, aerial / domain)
            continue
        for area, ids in lone.items():
            yield _describe_lone_labels(labels / domain / area / "msk", ids, aerial / domain / area / "img")


def _describe_lone_labels(folder: Path, ids: list[str], images: Path) -> str:
    what = "1 label without its image" if len(ids) == 1 else f"{len(ids):,} labels without their images"
    names = ", ".join(f"MSK_{id}.tif" for id in ids[:3]) + (", …" if len(ids) > 3 else "")
    return f"{folder}: {what} ({names}); put the images into {images}, or remove the labels"


def _scan_area(
    sources: _Sources, domain: str, area: str, images: dict[str, str], problems: list[str]
) -> Iterator[Patch]:
    """The patches of an area that have everything that is wanted."""
    super_area, size = _find_super_area(sources, domain, area, problems)
    find_centroid = functools.partial(_parse_centroid, size=size)
    label_folder = f"{sources.labels}/{domain}/{area}/msk"
    label_paths = _list_files(label_folder, _LABELS) if sources.labels else {}
    for id, image in images.items():
        centroid = look_up(sources.centroids, f"IMG_{id}.tif", find_centroid, problems)
        metadata = look_up(sources.metadata, f"IMG_{id}", parse_metadata, problems)
        labels = label_paths.get(id)
        if sources.labels and not labels:
            problems.append(f"{label_folder}: no MSK_{id}.tif for the image {image}")
        elif super_area and (centroid or not sources.series) and (metadata or not sources.described):
            known = metadata or parse_metadata({})
            yield Patch(id, domain, area, image, labels, super_area, centroid, known)


def _find_super_area(
    sources: _Sources, domain: str, area: str, problems: list[str]
) -> tuple[SuperArea | None, tuple[int, int] | None]:
    """The area, unless its series is wanted and damaged, and the size (H, W) of the series if it is known."""
    if sources.sentinel is None:
        return None, None
    stem = f"{sources.sentinel}/{domain}/{area}/sen/SEN2_sp_{domain}-{area}"
    found = SuperArea(domain, area, f"{stem}_data.npy", f"{stem}_masks.npy", f"{stem}_products.txt")
    if not sources.series:
        return found, None
    faults, size = inspect_super_area(found)
    problems += faults
    return (None if faults else found), size


def _parse_centroid(entry: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    """(row, column) of an entry; ValueError if the central window around it leaves the super-area of `size`.

    An unknown size (None) allows any.
    """
    centroid = parse_centroid(entry)
    half = CENTRE // 2
    if size and not all(half <= at <= side - half for at, side in zip(centroid, size, strict=True)):
        raise ValueError(
            f"is {list(centroid)}: the central {CENTRE} x {CENTRE} pixels leave the area, {size}"
        )
    return centroid


def _list_files(folder: str, pattern: re.Pattern[str]) -> dict[str, str]:
    """Id (the digits of IMG_000001.tif) -> path of each file whose name matches; none without the folder."""
    return {name[4:10]: f"{folder}/{name}" for name in find_names(folder, pattern)}
