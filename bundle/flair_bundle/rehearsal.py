"""A rehearsal: submissions through a finished bundle, as the platform runs them, before an upload."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_bundle.check.competition import DEFAULT_QUEUE_SECONDS, read_competition
from flair_bundle.check.findings import Findings
from flair_bundle.check.parts import open_part
from flair_bundle.check.tasks import FILES_OF_TASK, read_limits_of
from flair_bundle.platform.worker import Outcome, Worker
from flair_bundle.schema import is_uuid
from flair_ingestion.limits import Limits
from flair_scoring.base.bounded_zip import ZipError, open_zip
from flair_scoring.base.errors import DataError, UsageError, list_problems
from flair_scoring.base.files import write_file
from flair_scoring.base.provenance import stamp

RECORD = "rehearsal.json"
NEAR = 0.5  # share of a limit from which on it is told
_WORK = ".work"
_MAX_DIRECTORY = 256 << 20


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
    """What a submission got in a phase. `folder` holds the results, `near` sentences on limits."""

    phase: Phase
    name: str
    outcome: Outcome
    folder: Path
    near: list[str]


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
        with open_zip(bundle, _MAX_DIRECTORY) as archive:
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
    near = [sentence for share, sentence in limits_used(phase, outcome, folder, submission) if share >= NEAR]
    return Rehearsed(phase, name, outcome, folder, near)


def limits_used(
    phase: Phase, outcome: Outcome, folder: Path, submission: Path
) -> Iterator[tuple[float, str]]:
    """Share of each limit that was used, with a sentence that names both."""
    limits = phase.limits
    seconds = phase.settings.get("execution_time_limit", DEFAULT_QUEUE_SECONDS)
    for job, step in (("ingestion", outcome.ingestion), ("scoring", outcome.scoring)):
        if step:
            yield _share(f"{job}'s job", step.seconds, seconds, "s", "execution_time_limit")
    if outcome.ingestion:
        yield _share("all of ingestion", outcome.ingestion.seconds, limits.wall_seconds, "s", "wall_seconds")
    size = sum(entry.file_size for entry in zipfile.ZipFile(submission).infolist()) / 2**20
    yield _share("the submission", size, limits.submission_mib, "MiB", "submission_mib")
    try:
        timing = json.loads((folder / "timing.json").read_bytes())
    except (OSError, ValueError):
        return
    known = (
        ("time / baseline", timing.get("ratio"), limits.ratio, "", "ratio"),
        ("inference", timing.get("inference_seconds"), limits.seconds, "s", "seconds"),
        ("loading", timing.get("load_seconds"), limits.load_seconds, "s", "load_seconds"),
        ("warm-up", timing.get("warmup_seconds"), limits.warmup_seconds, "s", "warmup_seconds"),
        ("memory", timing.get("peak_memory_mib"), limits.memory_gib * 1024, "MiB", "memory_gib"),
    )
    for what, used, limit, unit, key in known:
        if used is not None and limit:
            yield _share(what, used, limit, unit, key)
    if latencies := timing.get("latencies_ms"):
        yield _share(
            "the slowest request", max(latencies) / 1000, limits.request_seconds, "s", "request_seconds"
        )


def _share(what: str, used: float, limit: float, unit: str, key: str) -> tuple[float, str]:
    amount = f"{used:.3g} of {limit:g} {unit}".rstrip()
    return used / limit, f"{what}: {amount} ({used / limit:.0%} of {key})"


def describe(one: Rehearsed) -> Iterator[str]:
    """Lines on what a submission got: its steps, what participants see, what the leaderboard gets."""
    outcome, settings = one.outcome, one.phase.settings
    for job in ("own", "ingestion", "scoring"):
        if step := getattr(outcome, job):
            title = "submission's own program" if job == "own" else job
            yield f"  {title:12} exit code {step.returncode}, {step.seconds:.1f} s"
    if outcome.scoring is None:
        yield "  status       Failed: the worker gives up, since the output holds a file named metadata"
    else:
        yield f"  status       {outcome.status}"
    if outcome.scores is not None:
        yield f"  leaderboard  {', '.join(_cells(one.phase.columns, outcome.scores))}"
    elif outcome.scoring:
        told = outcome.scoring.stderr.strip().splitlines() or ["nothing"]
        yield f"  reason       {told[0].removeprefix('error: ')}"
    yield f"  participants {'; '.join(_visible(settings, outcome))}"
    for sentence in one.near:
        yield f"  near a limit {sentence}"


def _cells(columns: Sequence[dict[str, Any]], scores: dict[str, Any]) -> Iterator[str]:
    for column in columns:
        if "computation" not in column and not column.get("hidden"):
            value = scores.get(column["key"])
            shown = "nothing" if value is None else f"{value:.{column.get('precision', 2)}f}"
            yield f"{column['title']} {shown}"


def _visible(settings: dict[str, Any], outcome: Outcome) -> Iterator[str]:
    """What participants see of a run and what the phase hides, by the phase's switches."""
    hidden = settings.get("hide_output")
    outputs = {
        "logs": hidden,
        "output of ingestion": hidden or settings.get("hide_prediction_output"),
        "output of scoring": hidden or settings.get("hide_score_output"),
    }
    if outcome.scored is None:
        del outputs["output of scoring"]
    seen = [name for name, is_hidden in outputs.items() if not is_hidden]
    seen += ["page of detailed results"] if outcome.report else []
    yield f"see {', '.join(seen) or 'nothing'}"
    if kept_back := [name for name, is_hidden in outputs.items() if is_hidden]:
        yield f"do not see {', '.join(kept_back)}"


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
            "near_limits": one.near,
        }
        for one in runs
    ]
    record = {**stamp(), "bundle": bundle.name, "runs": entries}
    write_file(output / RECORD, json.dumps(record, indent=1) + "\n")


def warn(sentence: str) -> None:
    """A note on stderr."""
    print(f"note: {sentence}", file=sys.stderr)
