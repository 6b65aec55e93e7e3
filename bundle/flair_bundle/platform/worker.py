"""The two jobs that the platform's compute worker runs for a submission: prediction, then scoring.

The worker's surprises are imitated, too. Scoring runs after a failed ingestion. The files of a submission
without a metadata file are copied to where results are expected. A submission whose metadata file has a
command runs in a container of its own, before ingestion.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flair_bundle.platform.container import ENVIRONMENT, Container, namespaces_work
from flair_bundle.platform.engine import Engine, engine_command
from flair_bundle.platform.process import Step, run_step

# Replaced in this order, wherever they occur in a command
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
# When a worker copies the files of a submission without a metadata file beside the results
BEFORE_INGESTION, AT_SCORING, NEVER = COPIES = ("before ingestion", "at scoring", "never")
_METADATA = ("metadata.yaml", "metadata")


@dataclass(frozen=True)
class Image:
    """An image in which the containers run; `gpu` is a CDI device, None for no GPU."""

    engine: Engine
    name: str
    gpu: str | None


@dataclass(frozen=True)
class Outcome:
    """The end of a submission.

    `status` is Finished or Failed. `own`, `ingestion` and `scoring` are the ended programs, None if they were
    not started. `predicted` and `scored` are the folders with what participants can download of both jobs;
    None if the worker keeps nothing. `report` is the page of detailed results, `scores` what the leaderboard
    gets.
    """

    status: str
    own: Step | None
    ingestion: Step | None
    scoring: Step | None
    predicted: Path | None
    scored: Path | None
    report: Path | None
    scores: dict[str, Any] | None


@dataclass(frozen=True)
class Worker:
    """A worker with a folder of its own, in which nothing has run yet.

    `data` is the folder that containers see as /app/data, None for an empty one. `device` takes the place of
    the word `cuda` in commands. `image` None means namespaces in place of an engine; `isolated` False means
    paths in place of mounts. `copies` says when the submission's files are copied. `show`: print the logs
    while they are written. `timeout`: seconds for each program, None for no end.
    """

    folder: Path
    data: Path | None = None
    device: str = "cpu"
    image: Image | None = None
    isolated: bool | None = None
    copies: str = BEFORE_INGESTION
    show: bool = False
    timeout: float | None = None

    def run(self, task: Mapping[str, Path], submission: Path) -> Outcome:
        """Run both jobs for the zip `submission`; `task` maps keys of competition.yaml to zips."""
        own, ingestion, output = self._predict(task, submission)
        if output is None:
            return Outcome("Failed", own, ingestion, None, None, None, None, None)
        scoring, scored = self._score(task, output, submission)
        report = next(iter(sorted(scored.glob("*.html"))), None)
        if scoring.returncode or not (scored / "scores.json").is_file():
            return Outcome("Failed", own, ingestion, scoring, output, None, report, None)
        scores = json.loads((scored / "scores.json").read_bytes())
        return Outcome("Finished", own, ingestion, scoring, output, scored, report, scores)

    def _predict(self, task: Mapping[str, Path], submission: Path) -> tuple[Step | None, Step, Path | None]:
        """Run the first job. Returns the submission's own program, ingestion, and the output if kept."""
        job = self.folder / "prediction"
        output, ingested = _make(job / "output"), unpack(submission, job / "ingested_program")
        shared = {"/app/output": output, **self._data()}
        if "input_data" in task:
            shared["/app/input_data"] = unpack(task["input_data"], job / "input_data")
        own, record = None, dict[str, Any](exitCode=None, elapsedTime=None)
        command = read_command(ingested)
        if self.copies == BEFORE_INGESTION and not _has_metadata(ingested):
            shutil.copytree(ingested, output, dirs_exist_ok=True)
        if command:
            own = self._run(job / "own", command, {"/app/program": ingested, **shared}, _PREDICTION)
            record = {"exitCode": own.returncode, "elapsedTime": own.seconds}
        program = unpack(task["ingestion_program"], job / "program")
        mounts = {"/app/program": program, "/app/ingested_program": ingested, **shared}
        ingestion = self._run(job / "ingestion", read_command(program) or "", mounts, _PREDICTION)
        if (output / "metadata").exists():  # the worker: "output directory already contains a metadata file"
            return own, ingestion, None
        record |= {"ingestionExitCode": ingestion.returncode, "ingestionElapsedTime": ingestion.seconds}
        record["elapsedTime"] = record["elapsedTime"] or ingestion.seconds  # as the worker of release 1.25
        (output / "metadata").write_text(yaml.safe_dump(record))
        return own, ingestion, output

    def _score(self, task: Mapping[str, Path], predicted: Path, submission: Path) -> tuple[Step, Path]:
        """Run the second job. Returns scoring and the folder of its output."""
        job = self.folder / "scoring"
        mounts = {
            "/app/program": unpack(task["scoring_program"], job / "program"),
            "/app/input": _make(job / "input"),
            "/app/shared": _make(job / "shared"),
            "/app/output": _make(job / "output"),
            **self._data(),
        }
        if "reference_data" in task:
            unpack(task["reference_data"], job / "input/ref")
        # The worker copies through a zip, which holds the files that links lead to in place of the links
        shutil.copytree(predicted, job / "input/res")
        if self.copies == AT_SCORING:
            files = unpack(submission, job / "submission")
            if not _has_metadata(files) or (files / "metadata").exists():
                shutil.copytree(files, job / "input/res", dirs_exist_ok=True)
        command = read_command(mounts["/app/program"]) or ""
        return self._run(job / "scoring", command, mounts, _SCORING), job / "output"

    def _run(self, root: Path, command: str, mounts: dict[str, Path], names: dict[str, str]) -> Step:
        """Run the command of a metadata file in a container. No shell reads it."""
        for name, path in names.items():
            command = command.replace(name, path)
        words = [self.device if word == "cuda" else word for word in shlex.split(command)]
        if not words:
            return Step(127, "", "error: no command in the metadata file of the program\n", 0.0)
        outside = {inside: str(path) for inside, path in mounts.items()}
        isolated = namespaces_work() if self.isolated is None else self.isolated
        if self.image is None:  # the interpreter is this one
            words = [sys.executable if word == "python3" else word for word in words]
        container = Container(words, outside, "/app/program", str(_make(root)), isolated, ("/app/data",))
        if self.image is None:
            return run_step(container.launcher(), ENVIRONMENT, self.show, self.timeout)
        line, removal = engine_command(self.image.engine, self.image.name, container, self.image.gpu, False)
        return run_step(
            line, None, self.show, self.timeout, lambda: subprocess.run(removal, capture_output=True)
        )

    def _data(self) -> dict[str, Path]:
        return {"/app/data": self.data or _make(self.folder / "data")}


def read_command(folder: Path) -> str | None:
    """The command in the metadata file of a program or a submission."""
    for name in _METADATA:
        if (folder / name).is_file():
            try:
                content = yaml.safe_load((folder / name).read_bytes())
            except (yaml.YAMLError, UnicodeDecodeError):  # the worker goes on without a command
                return None
            command = content.get("command") if isinstance(content, dict) else None
            return command if isinstance(command, str) else None
    return None


def _has_metadata(folder: Path) -> bool:
    return any((folder / name).exists() for name in _METADATA)


def _make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a zip into a folder, as the worker does; the folder."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return _make(folder)
