"""Finding predictions and references on disk, and matching them by patch id."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flair_scoring.errors import DataError, UsageError, list_problems
from flair_scoring.files import read_file

PREDICTION = re.compile(r"PRED_(?:IMG_)?(\d{6})\.tif", re.ASCII)
REFERENCE = re.compile(r"MSK_(\d{6})\.tif", re.ASCII)
_IDS_BYTES = 16 << 20  # of a file of ids, 7 each
DOMAIN = re.compile(r"D\d{3}_\d{4}", re.ASCII)
AREA = re.compile(r"Z\d+_[A-Z]{2}", re.ASCII)


@dataclass(frozen=True)
class Rasters:
    """Paths by 6-digit id, in id order; what is wrong with names; how many other files there are."""

    paths: dict[str, str]
    problems: list[str]
    ignored: int


def list_files(folder: str | Path) -> Iterator[str]:
    """Paths of all files below `folder`, through links, no folder twice; UsageError if it is no folder."""
    if not os.path.isdir(folder):
        raise UsageError(
            f"{folder}: {'not a folder; unpack it' if os.path.exists(folder) else 'no such folder'}"
        )
    pending, visited = [str(folder)], set()
    while pending:
        current = pending.pop()
        if (real := os.path.realpath(current)) in visited:
            continue
        visited.add(real)
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            raise UsageError(f"{current}: cannot be listed ({error.strerror})") from None
        for entry in entries:
            if _is_folder(entry):
                pending.append(entry.path)
            else:
                yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: whoever needs that file will say so
        return False


def find_rasters(files: Iterable[str], name: re.Pattern[str]) -> Rasters:
    """The files whose name matches; problems are names in the wrong case and several files for one id."""
    found: dict[str, list[str]] = {}
    problems, ignored = [], 0
    any_case = re.compile(name.pattern, re.ASCII | re.IGNORECASE)
    for path in files:
        basename = os.path.basename(path)
        if match := name.fullmatch(basename):
            found.setdefault(match[1], []).append(path)
        elif any_case.fullmatch(basename):
            problems.append(f"{path}: upper and lower case differ from the expected name")
        else:
            ignored += 1
    several = {id: sorted(paths) for id, paths in found.items() if len(paths) > 1}
    problems += [f"{len(paths)} files for {id}: {', '.join(paths)}" for id, paths in several.items()]
    return Rasters({id: min(found[id]) for id in sorted(found)}, sorted(problems), ignored)


def select_references(references: Rasters, ids: Collection[str] | None, folder: str | Path) -> dict[str, str]:
    """References to score, path by id: all, or those of `ids`; DataError if some are missing or ambiguous."""
    if references.problems:
        raise DataError(list_problems(f"{folder}: references are ambiguous", references.problems))
    if not references.paths:
        raise DataError(f"{folder}: no references; expected files MSK_<6 digits>.tif, flat or in folders")
    if ids is None:
        return references.paths
    if missing := sorted(set(ids) - references.paths.keys()):
        raise DataError(list_problems(f"{folder}: no references MSK_<id>.tif for these ids", missing))
    return {id: references.paths[id] for id in sorted(set(ids))}


def domain_and_area(path: str) -> tuple[str, str]:
    """The domain ("D022_2021") and area ("Z12_UN") that the folders of `path` name; "" for none."""
    folders = os.path.dirname(path)
    domains, areas = DOMAIN.findall(folders), AREA.findall(folders)
    return domains[-1] if domains else "", areas[-1] if areas else ""


def read_ids(path: Path) -> list[str]:
    """Patch ids from a text file, one 6-digit id per line; raises UsageError that names bad lines."""
    try:
        lines = read_file(path, _IDS_BYTES).decode().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(
            f"{path}: cannot be read ({reason}); expected a text file with one 6-digit id per line"
        ) from None
    bad = [f"{line!r:.60}" for line in lines if not re.fullmatch(r"\d{6}", line, re.ASCII)]
    if bad or not lines:
        raise UsageError(list_problems(f"{path}: expected one 6-digit id per line", bad or ["no ids"]))
    return lines
