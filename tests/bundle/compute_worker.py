"""What the platform's compute worker does with a submission: a prediction job, then a scoring job.

Also where that is odd: scoring runs after a failed ingestion, the files of a submission without a metadata
file lie in ingestion's output before it starts, and one whose metadata file has a command runs on its own.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from container import Container, namespaces_work

# Replaced in this order, wherever they stand in a command
_COMMON = {
    "$output": "/app/output",
    "$program": "/app/program",
    "$ingestion_program": "/app/program",
    "$hidden": "/app/input/ref",
    "$shared": "/app/shared",
    "$submission_program": "/app/ingested_program",
    "$tmp": "/app/output",
}
_PREDICTION = {"$input": "/app/input_data"} | _COMMON | {"$predictions": "/app/output"}
_SCORING = {"$input": "/app/input"} | _COMMON | {"$predictions": "/app/input/res"}


@dataclass(frozen=True)
class Outcome:
    """What became of a submission.

    `status` is Finished or Failed. `own`, `ingestion` and `scoring` are the ended processes, None if they
    were not started. `predicted` and `scored` are what participants can download of both jobs; `report` is
    the page of detailed results, `scores` what the leaderboard gets.
    """

    status: str
    own: subprocess.CompletedProcess[str] | None
    ingestion: subprocess.CompletedProcess[str] | None
    scoring: subprocess.CompletedProcess[str] | None
    predicted: dict[str, bytes]
    scored: dict[str, bytes]
    report: bytes | None
    scores: dict[str, Any] | None


@dataclass(frozen=True)
class Worker:
    """A worker with an empty folder of its own.

    `copies`: a submission's files are put into the output before ingestion, as some versions do. `isolated`:
    as in Container, by default where that works. `data` is what containers see as /app/data.
    """

    folder: Path
    copies: bool = True
    isolated: bool | None = None
    data: Path | None = None

    def run(self, bundle: Mapping[str, bytes], task: Mapping[str, Any], submission: bytes) -> Outcome:
        """Both jobs of a task of the bundle; the folder must not have been used."""
        own, ingestion, predicted = self._predict(bundle, task, submission)
        if predicted is None:
            return Outcome("Failed", own, ingestion, None, {}, {}, None, None)
        scoring, output = self._score(bundle, task, predicted)
        report = next((path.read_bytes() for path in sorted(output.glob("*.html"))), None)
        if scoring.returncode or not (output / "scores.json").is_file():
            return Outcome("Failed", own, ingestion, scoring, predicted, {}, report, None)
        scores = json.loads((output / "scores.json").read_bytes())
        return Outcome("Finished", own, ingestion, scoring, predicted, _collect(output), report, scores)

    def _predict(
        self, bundle: Mapping[str, bytes], task: Mapping[str, Any], submission: bytes
    ) -> tuple[subprocess.CompletedProcess[str] | None, subprocess.CompletedProcess[str] | None, Any]:
        """The submission's own process, ingestion's, and the files of the output; None if that is refused."""
        job = self.folder / "prediction"
        output, ingested = _make(job / "output"), _unpack(submission, job / "ingested_program")
        shared = {"/app/output": output, **self._data()}
        if "input_data" in task:
            shared["/app/input_data"] = _unpack(bundle[task["input_data"]], job / "input_data")
        own, record = None, dict[str, Any](exitCode=None, elapsedTime=None)
        command = read_command(ingested)
        if self.copies and not any((ingested / name).exists() for name in ("metadata.yaml", "metadata")):
            shutil.copytree(ingested, output, dirs_exist_ok=True)
        if command:
            own, seconds = self._run(job / "own", command, {"/app/program": ingested, **shared})
            record = {"exitCode": own.returncode, "elapsedTime": seconds}
        program = _unpack(bundle[task["ingestion_program"]], job / "program")
        mounts = {"/app/program": program, "/app/ingested_program": ingested, **shared}
        ingestion, seconds = self._run(job / "ingestion", read_command(program) or "", mounts)
        if (output / "metadata").exists():  # "output directory already contains a metadata file"
            return own, ingestion, None
        record |= {"ingestionExitCode": ingestion.returncode, "ingestionElapsedTime": seconds}
        (output / "metadata").write_text(yaml.safe_dump(record))
        return own, ingestion, _collect(output)

    def _score(
        self, bundle: Mapping[str, bytes], task: Mapping[str, Any], predicted: dict[str, bytes]
    ) -> tuple[subprocess.CompletedProcess[str], Path]:
        """Scoring's process and its output."""
        job = self.folder / "scoring"
        mounts = {
            "/app/program": _unpack(bundle[task["scoring_program"]], job / "program"),
            "/app/input": _make(job / "input"),
            "/app/shared": _make(job / "shared"),
            "/app/output": _make(job / "output"),
            **self._data(),
        }
        _unpack(bundle[task["reference_data"]], job / "input/ref")
        _write(predicted, job / "input/res")
        command = read_command(mounts["/app/program"]) or ""
        return self._run(job / "scoring", command, mounts, _SCORING)[0], job / "output"

    def _run(
        self, root: Path, command: str, mounts: dict[str, Path], names: dict[str, str] = _PREDICTION
    ) -> tuple[subprocess.CompletedProcess[str], float]:
        """A command of a metadata file in its container; the ended process and its seconds."""
        for name, place in names.items():
            command = command.replace(name, place)
        # No shell; the interpreter and the device are those of the tests
        here = {"python3": sys.executable, "cuda": "cpu"}
        words = [here.get(word, word) for word in shlex.split(command)]
        places = {inside: str(outside) for inside, outside in mounts.items()}
        isolated = namespaces_work() if self.isolated is None else self.isolated
        container = Container(words, places, "/app/program", str(_make(root)), isolated, ("/app/data",))
        begin = time.monotonic()
        return container.run(), time.monotonic() - begin

    def _data(self) -> dict[str, Path]:
        return {"/app/data": self.data or _make(self.folder / "data")}


def read_command(folder: Path) -> str | None:
    """The command in the metadata file of a program or a submission."""
    for name in ("metadata.yaml", "metadata"):
        if (folder / name).is_file():
            content = yaml.safe_load((folder / name).read_bytes())
            return content.get("command") if isinstance(content, dict) else None
    return None


def pack_folder(folder: Path) -> bytes:
    """The zip that a participant uploads."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpack(content: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return _make(folder)


def _collect(folder: Path) -> dict[str, bytes]:
    """The files of a job's output, which travel as a zip; what links lead to comes along."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        _make((folder / name).parent)
        (folder / name).write_bytes(content)
