"""Finding predictions and references on disk, and matching them by patch id."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flair_scoring.base.errors import DataError, UsageError, list_names, list_problems
from flair_scoring.base.files import read_file

_NUMBER = r"(\d{6})\.tif"
PREDICTION = re.compile(r"PRED_(?:IMG_)?" + _NUMBER, re.ASCII)
REFERENCE = re.compile(r"MSK_" + _NUMBER, re.ASCII)
IMAGE = re.compile(r"IMG_" + _NUMBER, re.ASCII)
DOMAIN = re.compile(r"D\d{3}_\d{4}", re.ASCII)
AREA = re.compile(r"Z\d+_[A-Z]{2}", re.ASCII)
_IDS_BYTES = 1 << 24  # the most that a list of ids may have: 16 for each of a million ids


@dataclass(frozen=True)
class Rasters:
    """The rasters in a list of files.

    `paths` holds one path for each 6-digit id, in the order of the ids. `problems` say what is wrong with
    names. `ignored` are the paths of all other files.
    """

    paths: dict[str, str]
    problems: list[str]
    ignored: list[str]

    def describe_ignored(self) -> str:
        """A clause with the number of ignored files and one of their names; "" if there are none."""
        if not self.ignored:
            return ""
        example = os.path.basename(min(self.ignored))
        if len(self.ignored) == 1:
            return f"1 file with another name was ignored: {example}"
        return f"{len(self.ignored)} files with other names were ignored, for example {example}"


def list_files(folder: str | Path) -> Iterator[str]:
    """The paths of all files below `folder`. Links are followed, but no folder is entered twice.

    Raises UsageError if `folder`, or a folder in it, cannot be listed.
    """
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
    except OSError:  # a link to itself; if it is needed, reading it fails with a reason
        return False


def find_rasters(files: Iterable[str], name: re.Pattern[str]) -> Rasters:
    """The files whose name matches the pattern `name`, which is PREDICTION, REFERENCE or one like them.

    Problems are several files for one id, and names that nearly match: they differ in upper and lower case,
    in the number of digits or in the ending .tiff.
    """
    found: dict[str, list[str]] = {}
    problems, ignored = [], []
    nearly = re.compile(name.pattern.replace(_NUMBER, r"(\d+)\.tiff?"), re.ASCII | re.IGNORECASE)
    for path in files:
        basename = os.path.basename(path)
        if match := name.fullmatch(basename):
            found.setdefault(match[1], []).append(path)
        elif match := nearly.fullmatch(basename):
            id = match[1].lstrip("0").zfill(6)
            start = basename[: match.start(1)].upper()
            problems.append(f"{path}: expected the name {start}{id if len(id) == 6 else '<6 digits>'}.tif")
        else:
            ignored.append(path)
    several = {id: sorted(paths) for id, paths in found.items() if len(paths) > 1}
    problems += [f"{len(paths)} files for {id}: {list_names(paths)}" for id, paths in several.items()]
    return Rasters({id: min(found[id]) for id in sorted(found)}, sorted(problems), ignored)


def find_patches(folder: str | Path, ids: Collection[str], name: re.Pattern[str]) -> dict[str, str]:
    """The files of these patches anywhere below `folder`, path by id; absent ones are left out.

    `name` is the pattern PREDICTION or IMAGE. Raises UsageError if `folder` cannot be listed, and if a patch
    has several such files: then it holds several results or data sets, and only one of them can be meant.
    """
    found: dict[str, list[str]] = {}
    wanted = set(ids)
    for path in list_files(folder):
        match = name.fullmatch(os.path.basename(path))
        if match and match[1] in wanted:
            found.setdefault(match[1], []).append(path)
    if several := [f"{id}: {list_names(sorted(paths))}" for id, paths in found.items() if len(paths) > 1]:
        what = "images" if name is IMAGE else "predictions"
        title = f"{folder}: holds several {what} of a patch; name the folder that holds one of each"
        raise UsageError(list_problems(title, sorted(several)))
    return {id: paths[0] for id, paths in found.items()}


def select_references(references: Rasters, ids: Collection[str] | None, folder: str | Path) -> dict[str, str]:
    """The references to score, path by id: those of `ids`, or all. `folder` is named in messages.

    Raises DataError if there are none, or if some are missing or ambiguous.
    """
    if references.problems:
        raise DataError(
            list_problems(f"{folder}: names of references are wrong or ambiguous", references.problems)
        )
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
    """The patch ids of a text file with one 6-digit id per line. Raises UsageError that names bad lines."""
    try:
        content = read_file(path, _IDS_BYTES)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes it
        text = content.decode("utf-16" if wide else "utf-8-sig")
        if "\0" in text:
            raise ValueError
        lines = text.split()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(
            f"{path}: cannot be read ({reason}); expected a text file with one 6-digit id per line"
        ) from None
    bad = [f"{line!r:.60}" for line in lines if not re.fullmatch(r"\d{6}", line, re.ASCII)]
    if bad or not lines:
        raise UsageError(list_problems(f"{path}: expected one 6-digit id per line", bad or ["no ids"]))
    return lines
