"""How much of FLAIR #2 is here: patches of the metadata json, and areas with series, that have no images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flair_ingestion.dataset.index import Patch
from flair_ingestion.dataset.layout import find_names, find_roots, find_split, list_domains
from flair_ingestion.dataset.sidecars import METADATA, read_sidecar
from flair_scoring.pairing import AREA, DOMAIN

_NAMED = 5  # most domains that a sentence names; of more it tells the number


def describe_gaps(data: Path, splits: Mapping[str, Sequence[Patch]]) -> list[str]:
    """Tell what each split lacks.

    A part of FLAIR #2 is a sound data set, so nothing of this is an error. But nobody should take it for all
    of FLAIR #2.

    Args:
        data: Folder with the unpacked archives of FLAIR #2.
        splits: Name of the split -> its patches, from `index_patches`. An empty split lacks everything.

    Returns:
        Sentences on missing patches, and on areas that have series but no images; none if nothing is missing.

    Raises:
        DataError: A folder cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from flair_ingestion.dataset import describe_gaps, index_patches
        >>> val = index_patches(Path("data"), "val")
        >>> describe_gaps(Path("data"), {"val": val})
        []
        >>> describe_gaps(Path("data"), {"val": val[1:]})
        ['5 of the 6 val patches known to flair_aerial_metadata.json are here; missing: 1 patch of D004_2021']
    """
    sidecar = read_sidecar(data, METADATA, [])
    known = find_known(sidecar.entries if sidecar else {})
    told: list[str] = []
    for split, patches in splits.items():
        here = {patch.id: patch.domain for patch in patches}
        told += describe_missing(split, here, known.get(split, {}))
        told += _describe_lone_series(data, split)
    return list(dict.fromkeys(told))


def find_known(entries: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Split -> id -> domain of the patches of FLAIR #2 that the metadata json knows with their domain."""
    known: dict[str, dict[str, str]] = {}
    for key, entry in entries.items():
        domain = entry.get("domain") if isinstance(entry, dict) else None
        if isinstance(domain, str) and DOMAIN.fullmatch(domain):
            id = key.removeprefix("IMG_")
            if split := find_split(id, domain):
                known.setdefault(split, {})[id] = domain
    return known


def describe_missing(split: str, here: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """One sentence if some of the known patches are not here, else none; both map ids to domains."""
    missing = Counter(domain for id, domain in known.items() if id not in here)
    if not missing:
        return []
    every = known.keys() | here.keys()
    told = f"{len(here):,} of the {len(every):,} {split} patches known to {METADATA[0]} are here"
    if not here:
        return [told]
    whole = sorted(missing.keys() - set(here.values()))
    holed = sorted(missing.keys() - set(whole))
    parts = []
    if whole:
        parts.append(f"all of {_name_domains(whole)}")
    if holed:
        count = sum(missing[domain] for domain in holed)
        parts.append(f"{count:,} {'patch' if count == 1 else 'patches'} of {_name_domains(holed)}")
    return [f"{told}; missing: {', and '.join(parts)}"]


def _name_domains(domains: Sequence[str]) -> str:
    return ", ".join(domains) if len(domains) <= _NAMED else f"{len(domains)} domains"


def _describe_lone_series(data: Path, split: str) -> list[str]:
    """One sentence if areas have a series and no folder of images, else none."""
    images = find_roots(data, "aerial", split)
    lone = [
        (root, domain, area)
        for root in find_roots(data, "sen", split)
        for domain in list_domains(root, split)
        for area in find_names(root / domain, AREA)
        if not any((image / domain / area).is_dir() for image in images)
    ]
    if not lone:
        return []
    folder = lone[0][0].name
    if len(lone) == 1:
        return [f"1 area of {folder} ({split}) has a series and no images"]
    return [f"{len(lone):,} areas of {folder} ({split}) have series and no images"]
