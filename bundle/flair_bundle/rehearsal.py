"""A rehearsal: submissions through a finished bundle, as the platform runs them, before an upload."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_bundle.check import (
    FILES_OF_TASK,
    MAX_DIRECTORY,
    Findings,
    open_part,
    read_competition,
    read_limits_of,
)
from flair_bundle.platform.worker import Outcome, Worker
from flair_bundle.schema import is_uuid
from flair_ingestion.limits import Limits
from flair_scoring.base.bounded_zip import ZipError, open_zip
from flair_scoring.base.errors import DataError, UsageError, list_problems
from flair_scoring.base.files import write_file
from flair_scoring.base.provenance import stamp

RECORD = "rehearsal.json"
_WORK = ".work"


@dataclass(frozen=True)
class Phase:
    """A phase of the competition: name, the zips of its task by key, limits, columns of the board."""

    name: str
    settings: dict[str, Any]
    zips: dict[str, Path]
    limits: Limits
    columns: list[dict[str, Any]]


@dataclass(frozen=True)
class Rehearsed:
    """What a submission of `size` MiB, unpacked, got in a phase. `folder` holds the results."""

    phase: Phase
    name: str
    size: float
    outcome: Outcome
    folder: Path


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """An empty folder inside `output`, removed at the end. An earlier rehearsal in `output` is removed first.

    Raises UsageError if `output` holds anything but an earlier rehearsal.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; expected a folder for the results, new or of a rehearsal")
    if output.is_dir() and any(output.iterdir()):
        if not (output / RECORD).is_file() and not (output / _WORK).is_dir():
            raise UsageError(f"{output}: holds files of something else; choose another --output")
        shutil.rmtree(output)
    work = output / _WORK
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot be made ({error.strerror}); choose another --output") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_phases(bundle: Path, work: Path, wanted: str | None) -> tuple[list[Phase], dict[str, Path]]:
    """Unpack a bundle into `work`: the phases in their order, and the bundle's own solutions by name.

    `wanted` is the name or the index of one phase, None for all. Raises DataError with all that a rehearsal
    lacks, UsageError for an unknown phase.
    """
    found = Findings()
    try:
        with open_zip(bundle, MAX_DIRECTORY) as archive:
            competition = read_competition(archive, found)
            if competition is None:
                raise DataError(list_problems(f"{bundle}: no bundle", found.problems))
            tasks = {
                task["index"]: _extract_task(archive, task, work, found) for task in competition["tasks"]
            }
            solutions = {
                Path(one["path"]).stem: _extract(archive, f"solution {one['path']}", one["path"], work, found)
                for one in competition.get("solutions", [])
                if one.get("path")
            }
    except OSError as error:
        raise DataError(f"{bundle}: cannot be read ({error.strerror or error})") from None
    except ZipError as error:
        raise DataError(f"{bundle}: {error}; build it again") from None
    columns = competition["leaderboards"][0]["columns"]
    phases = []
    for number, phase in enumerate(sorted(competition["phases"], key=lambda one: one.get("index", 0))):
        if wanted is not None and wanted not in (phase["name"], str(phase.get("index", number))):
            continue
        for index in phase["tasks"]:
            zips, limits = tasks[index]
            if limits:
                phases.append(Phase(phase["name"], phase, zips, limits, columns))
    if found.problems:
        raise DataError(list_problems(f"{bundle}: cannot be rehearsed", found.problems))
    if not phases:
        names = ", ".join(phase["name"] for phase in competition["phases"])
        raise UsageError(f"{bundle}: has no phase {wanted!r}; its phases are {names}")
    return phases, {name: path for name, path in solutions.items() if path}


def _extract_task(
    archive: zipfile.ZipFile, task: dict[str, Any], work: Path, found: Findings
) -> tuple[dict[str, Path], Limits | None]:
    """The zips of a task by key, and the limits of its ingestion program."""
    where = f"tasks[{task['index']}]"
    zips: dict[str, Path] = {}
    if "key" in task:
        found.problems.append(f"{where}: is on the platform (key {task['key']}), not in the bundle")
        return zips, None
    for key in FILES_OF_TASK:
        if key in task and (path := _extract(archive, f"{where}.{key}", task[key], work, found)):
            zips[key] = path
    if "reference_data" not in task:
        found.problems.append(f"{where}: no reference_data to score against; build with --data DATA")
    limits = None
    if "ingestion_program" in task:
        part = open_part(archive, f"{where}.ingestion_program", task["ingestion_program"], found)
        limits = read_limits_of(f"{where}.ingestion_program", part, found) if part else None
    return zips, limits


def _extract(archive: zipfile.ZipFile, where: str, value: str, work: Path, found: Findings) -> Path | None:
    """The zip that `value` names, as a file in `work`; the importer, too, makes a zip of a folder."""
    if is_uuid(value):
        found.problems.append(f"{where}: {value} is on the platform, not in the bundle")
        return None
    target = work / "parts" / f"{value.strip('/').replace('/', '_').removesuffix('.zip')}.zip"
    if target.exists():
        return target
    part = open_part(archive, where, value, found)
    if part is None:
        return None
    target.parent.mkdir(exist_ok=True)
    if part.prefix:
        with zipfile.ZipFile(target, "w") as copy:
            for name, entry in part.files.items():
                with archive.open(entry) as source, copy.open(name, "w", force_zip64=True) as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    else:
        with archive.open(value) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    return target


def group_phases(phases: Sequence[Phase]) -> list[list[Phase]]:
    """Groups of phases with the same programs and data, byte for byte: one run stands for the whole group."""
    groups: dict[tuple[tuple[str, str], ...], list[Phase]] = {}
    hashes = {path: "" for phase in phases for path in phase.zips.values()}
    for path in hashes:
        with path.open("rb") as file:
            hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
    for phase in phases:
        content = tuple(sorted((key, hashes[path]) for key, path in phase.zips.items()))
        groups.setdefault(content, []).append(phase)
    return list(groups.values())


def pack_submissions(paths: Sequence[Path], work: Path) -> dict[str, Path]:
    """Name -> zip of each submission; folders are zipped into `work`.

    Raises UsageError for all paths that are neither a zip nor a folder, and for names that occur twice.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        name = path.resolve().name if path.is_dir() else path.stem
        if name in found:
            problems.append(f"{path}: another submission has the name {name}; rename one")
        elif path.is_dir():
            found[name] = work / "submissions" / f"{name}.zip"
            found[name].parent.mkdir(exist_ok=True)
            with zipfile.ZipFile(found[name], "w") as archive:
                for file in sorted(path.rglob("*")):
                    if file.is_file():
                        archive.write(file, file.relative_to(path))
        elif zipfile.is_zipfile(path):
            found[name] = path
        else:
            problems.append(f"{path}: {'is no zip' if path.exists() else 'no such file or folder'}")
    if problems:
        raise UsageError(list_problems("expected submissions, zips or folders with model.py", problems))
    return found


def rehearse(phase: Phase, name: str, submission: Path, worker: Worker, output: Path) -> Rehearsed:
    """Run one submission in one phase, and put what it gets into OUTPUT/<phase>/<name>/.

    The folder holds what scoring wrote, timing.json, the logs, and ingestion's output in `prediction_output`.
    """
    outcome = worker.run(phase.zips, submission)
    folder = output / phase.name / name
    folder.mkdir(parents=True)
    if outcome.scored:
        shutil.copytree(outcome.scored, folder, dirs_exist_ok=True)
    elif outcome.report:
        shutil.copy(outcome.report, folder / "detailed_results.html")
    if outcome.predicted:
        if (outcome.predicted / "timing.json").is_file() and not (folder / "timing.json").exists():
            shutil.copy(outcome.predicted / "timing.json", folder)
        shutil.move(outcome.predicted, folder / "prediction_output")
    for job in ("own", "ingestion", "scoring"):
        if step := getattr(outcome, job):
            write_file(folder / f"{job}_log.txt", f"{step.stdout}{step.stderr}")
    with zipfile.ZipFile(submission) as archive:
        size = sum(entry.file_size for entry in archive.infolist()) / 2**20
    return Rehearsed(phase, name, size, outcome, folder)


def write_record(output: Path, bundle: Path, runs: Sequence[Rehearsed]) -> None:
    """Write OUTPUT/rehearsal.json, which marks the folder as a rehearsal's."""
    entries = [
        {
            "phase": one.phase.name,
            "submission": one.name,
            "status": one.outcome.status,
            "seconds": {
                job: step.seconds
                for job in ("own", "ingestion", "scoring")
                if (step := getattr(one.outcome, job))
            },
            "exit_codes": {
                job: step.returncode
                for job in ("own", "ingestion", "scoring")
                if (step := getattr(one.outcome, job))
            },
        }
        for one in runs
    ]
    record = {**stamp(), "bundle": bundle.name, "runs": entries}
    write_file(output / RECORD, json.dumps(record, indent=1) + "\n")
