"""The origin of an artefact: the schema, kit version and commit that each file of the kit records."""

from __future__ import annotations

import functools
import reprlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flair_scoring.base.errors import DataError

KIT_VERSION = "0.2.0.dev0"
SCHEMA = 1


@functools.cache
def commit() -> str:
    """Commit of the kit: from the COMMIT file of a bundle or a wheel, else from git, else 'unknown'.

    git is asked only if it tracks this file, since the package may be installed within another repository.
    """
    package = Path(__file__).parents[1]
    recorded = package / "COMMIT"
    if recorded.is_file():
        return recorded.read_text().strip()
    if not _ask_git("ls-files", "--", __file__):
        return "unknown"
    return _ask_git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or "unknown"


def _ask_git(*arguments: str) -> str:
    """The answer of git in this file's folder; empty where git or a repository is missing."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def stamp(nomenclature: str = "flair-12") -> dict[str, Any]:
    """The first fields of every artefact: schema, kit version, commit, nomenclature."""
    return {"schema": SCHEMA, "kit_version": KIT_VERSION, "commit": commit(), "nomenclature": nomenclature}


def check_stamp(fields: Mapping[str, Any], path: Path) -> None:
    """DataError, which names the file and both schemas, if an artefact has another schema than ours."""
    found = fields.get("schema")
    if found != SCHEMA:
        raise DataError(
            f"{path}: schema {reprlib.repr(found)}, this kit (version {KIT_VERSION}) reads schema {SCHEMA}; "
            "write the file again with this version"
        )
