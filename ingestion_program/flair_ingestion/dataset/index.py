"""Which patches a split has: images, labels, series and json entries, matched by 6-digit ids."""

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
    AREA,
    find_root,
    list_domains,
    list_names,
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

_IMAGE = re.compile(r"IMG_\d{6}\.tif", re.ASCII)
_LABELS = re.compile(r"MSK_\d{6}\.tif", re.ASCII)


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch: its files, the area whose series covers it and where, and its metadata.

    id "077413"; labels None unless asked for; super_area where the series lies if there is one; centroid
    (row, column) in it, None if no series is asked for; metadata as in the json: date, time,
    patch_centroid_x, patch_centroid_y, patch_centroid_z, camera, None where absent or not asked for.
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
    """Folders and json files of a split; None where one is not wanted, or missing, which is reported once.

    `series` and `described`: whether series and metadata are wanted; otherwise `sentinel` is only a name.
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
    """The patches of "train", "val" or "test", by id; DataError with all problems of the split's files.

    Checked are names, json entries and the headers of the series, but no raster (`dataset.check_patches`),
    and nothing of what is not asked for.
    """
    patches, problems = scan_split(data, split, labels, series, metadata)
    if problems:
        raise DataError(list_problems(f"{data}: the {split} split is incomplete or damaged", problems))
    return patches


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Hundreds of thousands of entries are made that all stay: collecting garbage would walk them in vain."""
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
    """The patches of a split that have all that is asked for, by id, and everything that is wrong with it.

    UsageError if there is no folder `data`, DataError if it has no folder of any archive.
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
    """The folder with the split's labels; training and validation share one. DataError if there is none."""
    problems: list[str] = []
    root = find_root(data, "labels", split, problems)
    if root is None:
        raise DataError(problems[0])
    return root


def _find_images(root: Path, split: str, problems: list[str]) -> dict[tuple[str, str], dict[str, str]]:
    """(domain, area) -> id -> path of the image; problems are empty folders and ids that occur twice."""
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
    """Domain and area of every area of the split; folders of other names are ignored."""
    domains = list_domains(root, split)
    if not domains:
        example = "D004_2021" if split == "val" else "D006_2020"
        problems.append(f"{root}: no domains of the {split} split (folders such as {example})")
    for domain in domains:
        areas = list_names(f"{root}/{domain}", AREA)
        if not areas:
            problems.append(f"{root}/{domain}: no areas (folders such as Z1_UF)")
        yield from ((domain, area) for area in areas)


def _find_lone_labels(
    labels: Path, aerial: Path, split: str, images: dict[tuple[str, str], dict[str, str]]
) -> Iterator[str]:
    """Labels without their images: a problem for each area, or for each domain that has no images at all."""
    for domain in list_domains(labels, split):
        lone = {}
        for area in list_names(labels / domain, AREA):
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
    """The patches of an area that have all that is wanted."""
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
    """The area's series if it is sound or not wanted, and its size (H, W) if that is known."""
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
    """A centroid around which the central window lies inside the super-area, if its size (H, W) is known."""
    centroid = parse_centroid(entry)
    half = CENTRE // 2
    if size and not all(half <= at <= side - half for at, side in zip(centroid, size, strict=True)):
        raise ValueError(
            f"is {list(centroid)}: the central {CENTRE} x {CENTRE} pixels leave the area, {size}"
        )
    return centroid


def _list_files(folder: str, pattern: re.Pattern[str]) -> dict[str, str]:
    """Id, the digits of IMG_000001.tif, -> path of each file with such a name; none without folder."""
    return {name[4:10]: f"{folder}/{name}" for name in list_names(folder, pattern)}
