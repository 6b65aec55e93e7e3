"""The parts of a bundle: folders and zips inside it, opened by the names that competition.yaml gives."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from typing import Any

from flair_bundle.check.findings import Findings, missing
from flair_bundle.schema import is_uuid
from flair_scoring.base.bounded_zip import ZipError, read_entry, read_pieces

_MAX_BYTES = 2 << 30  # of a file that is read whole: the largest is a submission


@dataclass(frozen=True)
class Part:
    """A folder or a zip inside the bundle: its files by their names below `prefix` of `archive`."""

    archive: zipfile.ZipFile
    prefix: str
    files: dict[str, zipfile.ZipInfo]

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return read(self.archive, self.prefix + name)

    def ids(self, pattern: re.Pattern[str]) -> set[str]:
        """Patch ids of the files with such names."""
        names = (pattern.fullmatch(name.rsplit("/", 1)[-1]) for name in self.files)
        return {found[1] for found in names if found}


def read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a file of the archive; raises ZipError."""
    return read_entry(archive, name, _MAX_BYTES)


def check_damage(archive: zipfile.ZipFile, found: Findings) -> None:
    """Read the whole bundle, with all that its zips hold, since damage in them shows only in a job."""
    for info in archive.infolist():
        part = open_part(archive, "", info.filename, Findings()) if info.filename.endswith(".zip") else None
        entries = [(part.archive, entry) for entry in part.files.values()] if part else [(archive, info)]
        try:
            for zip_file, entry in entries:
                for _ in read_pieces(zip_file, entry):
                    pass
        except ZipError as error:
            found.problems.append(f"{info.filename}: {error}; build the bundle again")


def open_part(archive: zipfile.ZipFile, where: str, value: Any, found: Findings) -> Part | None:
    """The folder or zip that a value names; None with a problem, and without one for UUIDs and non-texts."""
    if not isinstance(value, str) or is_uuid(value):
        return None
    names = archive.namelist()
    if value in names and not value.endswith("/"):
        try:
            # through a handle of its own: Python 3.12.1 loses its position in members that are read in turn
            again = zipfile.ZipFile(str(archive.filename))
            inner = zipfile.ZipFile(again.open(value))
        except Exception:  # what zipfile raises for a damaged file is not documented
            found.problems.append(
                f"{where}: {value} is not a zip; the platform takes it, and every run fails"
            )
            return None
        return Part(inner, "", {info.filename: info for info in inner.infolist() if not info.is_dir()})
    prefix = value.rstrip("/") + "/"
    files = {
        info.filename.removeprefix(prefix): info
        for info in archive.infolist()
        if info.filename.startswith(prefix) and not info.is_dir()
    }
    if not files:
        found.problems.append(missing(where, value))
        return None
    if not value.endswith("/"):
        found.problems.append(
            f"{where}: write the folder as {prefix!r}; without the slash imports can collide"
        )
    return Part(archive, prefix, files)
