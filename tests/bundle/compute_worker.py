"""The platform's worker for tests: bundles and submissions as bytes, what it leaves as bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_bundle.platform import worker
from flair_bundle.platform.process import Step

TIMEOUT = 200
FILES_OF_TASK = ("input_data", "reference_data", "ingestion_program", "scoring_program")


@dataclass(frozen=True)
class Outcome:
    """As flair_bundle's, with the content of folders and files by name."""

    status: str
    own: Step | None
    ingestion: Step | None
    scoring: Step | None
    predicted: dict[str, bytes]
    scored: dict[str, bytes]
    report: bytes | None
    scores: dict[str, Any] | None


@dataclass(frozen=True)
class Worker:
    """As flair_bundle's."""

    folder: Path
    copies: str = worker.BEFORE_INGESTION
    isolated: bool | None = None
    data: Path | None = None

    def run(self, bundle: Mapping[str, bytes], task: Mapping[str, Any], submission: bytes) -> Outcome:
        """Both jobs of a task of the bundle; the folder must not have been used."""
        zips = self.folder / "zips"
        zips.mkdir(parents=True, exist_ok=True)
        parts = {}
        for key in FILES_OF_TASK:
            if key in task:
                parts[key] = zips / f"{key}.zip"
                parts[key].write_bytes(bundle[task[key]])
        (zips / "submission.zip").write_bytes(submission)
        real = worker.Worker(
            self.folder, self.data, isolated=self.isolated, copies=self.copies, timeout=TIMEOUT
        )
        found = real.run(parts, zips / "submission.zip")
        return Outcome(
            found.status,
            found.own,
            found.ingestion,
            found.scoring,
            read_folder(found.predicted),
            read_folder(found.scored),
            found.report and found.report.read_bytes(),
            found.scores,
        )


def read_folder(folder: Path | None) -> dict[str, bytes]:
    """Name -> content of every file below a folder; empty for None."""
    files = folder.rglob("*") if folder else []
    return {path.relative_to(str(folder)).as_posix(): path.read_bytes() for path in files if path.is_file()}


def pack_folder(folder: Path) -> bytes:
    """The zip that a participant uploads."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()
