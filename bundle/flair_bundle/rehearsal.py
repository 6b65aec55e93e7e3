"""A rehearsal: submissions through a finished bundle, as the platform runs them, before an upload."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from flair_bundle.platform.worker import Outcome, Worker, unpack
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
    """A phase of the competition with one of its tasks.

    `folder` is the name of the folder for its results. `zips` are those of the task by key, and `columns` are
    those of the leaderboard.
    """

    name: str
    folder: str
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
    """An empty folder inside `output`, removed at the end, as is a new `output` that has stayed empty.

    Raises UsageError if `output` holds anything but an earlier rehearsal, and if it runs out of room.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; expected a folder for the results, new or of a rehearsal")
    work, is_new = output / _WORK, not output.exists()
    if not is_new and any(output.iterdir()) and not (output / RECORD).is_file() and not work.is_dir():
        raise UsageError(f"{output}: holds files of something else; choose another --output")
    shutil.rmtree(work, ignore_errors=True)  # of a rehearsal that was killed
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot be made ({error.strerror}); choose another --output") from None
    try:
        yield work
    except OSError as error:
        if not _is_about_room(error):
            raise
        raise UsageError(f"{output}: no room is left for the rehearsal; choose another --output") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it holds results
                output.rmdir()


def _is_about_room(error: OSError) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT)
    # shutil tells all that it could not copy in one error without a number
    return error.errno in full or any(os.strerror(number) in str(error) for number in full)


def require_apart(output: Path, inputs: Collection[Path]) -> None:
    """Raises UsageError for inputs in `output`, which is emptied, and for folders among them that hold it."""
    folder = output.resolve()
    problems = []
    for path in map(Path.resolve, inputs):
        if path.is_relative_to(folder):
            problems.append(f"{path} lies in it")
        elif folder.is_relative_to(path):
            problems.append(f"{path} holds it")
    if problems:
        raise UsageError(
            list_problems(f"{output}: choose an --output apart from what is rehearsed", problems)
        )


def remove_earlier(output: Path) -> None:
    """Remove what an earlier rehearsal has left in `output`."""
    for entry in output.iterdir():
        if entry.name == _WORK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


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
    except ZipError as error:
        raise DataError(f"{bundle}: {error}; build it again") from None
    columns = competition["leaderboards"][0]["columns"]
    phases: list[Phase] = []
    folders = {RECORD}
    for number, phase in enumerate(sorted(competition["phases"], key=lambda one: one.get("index", 0))):
        if wanted is not None and wanted not in (phase["name"], str(phase.get("index", number))):
            continue
        for index in phase["tasks"]:
            zips, limits = tasks[index]
            name = phase["name"] if len(phase["tasks"]) == 1 else f"{phase['name']}, task {index}"
            if limits:
                folders.add(folder := _folder_name(name, folders))
                phases.append(Phase(name, folder, phase, zips, limits, columns))
    if found.problems:
        raise DataError(list_problems(f"{bundle}: cannot be rehearsed", found.problems))
    if not phases:
        names = ", ".join(phase["name"] for phase in competition["phases"])
        raise UsageError(f"{bundle}: has no phase {wanted!r}; its phases are {names}")
    return phases, {name: path for name, path in solutions.items() if path}


def _folder_name(name: str, taken: Collection[str]) -> str:
    """A name for a folder, not one of `taken`, made from the name of a phase, which may hold anything."""
    plain = re.sub(r"[/\x00-\x1f\x7f]+|^\.+", "_", name).strip()[:60]
    folder, number = plain, 2
    while folder in taken:
        folder, number = f"{plain} ({number})", number + 1
    return folder


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


def pack_submissions(paths: Sequence[Path], work: Path, taken: Collection[str]) -> dict[str, Path]:
    """Name -> zip of each submission; folders are zipped into `work`.

    Raises UsageError for all paths that are neither a folder nor a zip that unpacks, and for names that occur
    twice or are `taken`.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        name = path.resolve().name if path.is_dir() else path.stem
        if name in found or name in taken:
            problems.append(f"{path}: another submission has the name {name}; rename one")
        elif path.is_dir():
            found[name] = work / "submissions" / f"{name}.zip"
            found[name].parent.mkdir(exist_ok=True)
            # A file may be older than 1980, the first year of a zip
            with zipfile.ZipFile(found[name], "w", strict_timestamps=False) as archive:
                for file in sorted(path.rglob("*")):
                    if file.is_file():
                        archive.write(file, file.relative_to(path))
        elif not path.exists():
            problems.append(f"{path}: no such file or folder")
        elif not path.is_file() or not zipfile.is_zipfile(path):  # a pipe would block
            problems.append(f"{path}: is no zip")
        elif reason := _unpacking_problem(path, work / "try"):
            problems.append(f"{path}: the worker cannot unpack it ({reason}); zip it again")
        else:
            found[name] = path
    if problems:
        raise UsageError(list_problems("expected submissions, zips or folders with model.py", problems))
    return found


def _unpacking_problem(path: Path, folder: Path) -> str | None:
    """Why a zip cannot be unpacked into a folder, which is removed again; None if it can."""
    try:
        unpack(path, folder)
    except OSError as error:
        if _is_about_room(error):
            raise
        return error.strerror or str(error)
    except Exception as error:  # what zipfile raises for damage is not documented
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def rehearse(phase: Phase, name: str, submission: Path, worker: Worker, output: Path) -> Rehearsed:
    """Run one submission in one phase, and put what it gets into its folder in OUTPUT.

    The folder holds what scoring wrote, timing.json, the logs, and ingestion's output in `prediction_output`.
    """
    outcome = worker.run(phase.zips, submission)
    folder = output / phase.folder / name
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
