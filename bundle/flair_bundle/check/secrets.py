"""Secrets of a bundle: the signing key, and the references that participants must not get."""

from __future__ import annotations

import zipfile
from typing import Any

from flair_bundle.check.findings import Findings, entries_of
from flair_bundle.check.parts import open_part
from flair_bundle.check.tasks import KEY
from flair_scoring.base.errors import list_names


def check_secrets(archive: zipfile.ZipFile, competition: dict[str, Any], found: Findings) -> None:
    """Check that the programs alone hold the key, all the same one, and that no reference gets out."""
    tasks = [task for task in entries_of(competition.get("tasks")) if isinstance(task, dict)]
    programs = [task.get(key) for task in tasks for key in ("ingestion_program", "scoring_program")]
    references = [task.get("reference_data") for task in tasks]
    parts = {
        name: part
        for name in archive.namelist()
        if name.endswith(".zip") and (part := open_part(archive, name, name, Findings()))
    }
    keys = {part.read(KEY) for name, part in parts.items() if name in programs and KEY in part.files}
    if len(keys) > 1:
        found.problems.append(f"the programs hold different {KEY}; build all of them at once")
    found.problems += [
        f"{name}: holds {KEY}, with which anybody could sign results"
        for name, part in parts.items()
        if name not in programs and KEY in part.files
    ]
    hidden = {
        (info.CRC, info.file_size): file
        for name, part in parts.items()
        if name in references
        for file, info in part.files.items()
        if info.file_size
    }
    for name, part in parts.items():
        leaks = [file for file, info in part.files.items() if (info.CRC, info.file_size) in hidden]
        if leaks and name not in references:
            found.problems.append(f"{name}: holds files of the references: {list_names(leaks, 1)}")
