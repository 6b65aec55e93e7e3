"""The json files beside the archives: the position of each patch in its super-area, and its metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

# The second spelling is that of IGN's archive
CENTROIDS = ("flair-2_centroids_sp_to_patch.json", "flair_2_centroids_sp_to_patch.json")
METADATA = ("flair_aerial_metadata.json",)
_OTHER_ARCHIVES = {METADATA[0]: ("flair_2_aerial_metadata",)}  # archives with a name other than the file's
# Field -> pattern of a text, or None for a number
_FIELDS: dict[str, re.Pattern[str] | None] = {
    "date": re.compile(r"\d{4}-\d{1,2}-\d{1,2}", re.ASCII),  # YYYY-MM-DD
    "time": re.compile(r"\d{1,2}h\d{1,2}", re.ASCII),  # HHhMM
    "patch_centroid_x": None,  # Lambert-93, metres
    "patch_centroid_y": None,
    "patch_centroid_z": None,  # altitude, metres
    "camera": re.compile(r".+"),
}
# How the file begins that git leaves in place of a large file that was not downloaded
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_TOLD = "a git-lfs pointer, not the file itself; fetch it with git lfs pull"
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Content of a json file, one entry per patch. An entry is checked when it is looked up."""

    path: Path
    entries: dict[str, Any]


def read_sidecar(data: Path, names: tuple[str, ...], problems: list[str]) -> Sidecar | None:
    """Read the json file that has one of the names. NaN, which is not json, is read as null.

    If the file is missing or damaged, a problem is added and the result is None.
    """
    path = next((data / name for name in names if (data / name).is_file()), None)
    if path is None:
        problems.append(_explain_absence(data, names))
        return None
    try:
        content = path.read_bytes()
        if content.startswith(POINTER):
            problems.append(f"{path}: {POINTER_TOLD}")
            return None
        entries = json.loads(content, parse_constant=lambda constant: None)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.append(f"{path}: not a readable json file ({reason}); unpack the archive again")
        return None
    if not isinstance(entries, dict):
        problems.append(f"{path}: holds a {type(entries).__name__}; expected an object, one key per patch")
        return None
    return Sidecar(path, entries)


def _explain_absence(data: Path, names: tuple[str, ...]) -> str:
    if deeper := sorted(path for name in names for path in data.glob(f"*/{name}")):
        return f"{deeper[0]}: must lie one folder up, in {data}; move it there"
    for name in (*names, *_OTHER_ARCHIVES.get(names[0], ())):
        archive = name.removesuffix(".json") + ".zip"
        if (data / archive).is_file():
            return f"{data}: {archive} is still packed; unpack it there"
    return f"{data}: no file {' or '.join(names)}"


def look_up(
    sidecar: Sidecar | None, key: str, parse: Callable[[Any], _Parsed], problems: list[str]
) -> _Parsed | None:
    """The parsed entry of `key`; None and a problem if it is missing or malformed.

    Without a sidecar it is None and no problem: the missing file has been reported already.
    """
    if sidecar is None:
        return None
    if key not in sidecar.entries:
        problems.append(f"{sidecar.path}: no key {key!r}")
        return None
    try:
        return parse(sidecar.entries[key])
    except ValueError as error:
        problems.append(f"{sidecar.path}: {key!r} {error}")
        return None


def parse_centroid(entry: Any) -> tuple[int, int]:
    """(row, column) of the patch's centre in the super-area; ValueError if the entry is not two integers."""
    if type(entry) is list and [type(number) for number in entry] == [int, int]:
        return entry[0], entry[1]
    raise ValueError(f"is {str(entry)[:80]}; expected two integers [row, column]")


def parse_metadata(entry: Any) -> dict[str, Any]:
    """The fields date, time, patch_centroid_x, _y, _z and camera; None where absent.

    Raises ValueError, which names malformed fields.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"is {str(entry)[:80]}; expected an object with {', '.join(_FIELDS)}")
    found = {field: entry.get(field) for field in _FIELDS}
    bad = [
        f"{field} {str(value)[:80]!r}" for field, value in found.items() if not _fits(value, _FIELDS[field])
    ]
    if bad:
        raise ValueError(f"has {', '.join(bad)}; expected YYYY-MM-DD, HHhMM, x, y, z in metres, a camera")
    return found


def _fits(value: Any, form: re.Pattern[str] | None) -> bool:
    if value is None:
        return True
    if form is None:
        return type(value) in (int, float)
    return isinstance(value, str) and form.fullmatch(value) is not None
