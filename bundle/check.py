"""Examine a bundle before the upload: what the platform refuses, ignores, or lets through to fail later.

Three lists come out: problems, what only matters once the bundle is uploaded, and remarks, which may be as
meant. A bundle whose image is LOCAL_IMAGE is meant for use at home; for any other one the second list holds
problems as well.
"""

from __future__ import annotations

import datetime
import io
import re
import shlex
import tempfile
import zipfile
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from schema import (
    COLUMN,
    COMPETITION,
    COMPETITION_REQUIRED,
    IMAGE_TYPES,
    LEADERBOARD,
    PAGE,
    PHASE,
    SOLUTION,
    TASK,
    check_fact_sheet,
    check_mapping,
    is_uuid,
    is_whole,
    parse_date,
)

from flair_ingestion.dataset import METADATA, describe_missing, find_known
from flair_ingestion.limits import Limits, read_limits
from flair_ingestion.submission import open_submission
from flair_scoring.base.bounded_json import parse_json
from flair_scoring.base.bounded_zip import ZipError, open_zip, read_entry
from flair_scoring.base.errors import DataError, FlairError, list_names
from flair_scoring.base.settings import parse_settings
from flair_scoring.outputs.scores import TIME_RATIO, score_keys
from flair_scoring.pairing import domain_and_area

LOCAL_IMAGE = "local-only/"  # what the name of an image begins with that nobody has published
YAML = "competition.yaml"
_MAX_DIRECTORY = 256 << 20  # bytes of the list of files: a million of them, with all their patches
_MAX_BYTES = 2 << 30  # of a file that is read whole: the largest is a submission
MAX_BYTES = 15 * 10**9  # what a user of the public site may store
LARGE_BYTES = 10**9  # a bundle of this size has been seen to unpack without end
DEFAULT_QUEUE_SECONDS = 600
SCORING_SECONDS = 300  # for the container's start and for scoring, beside ingestion's wall_seconds
MIN_DOMAINS = 3  # below, scoring writes no interval
PRIMARY = "miou"
KEY = "signing.key"
_LABELS = re.compile(r"MSK_(\d{6})\.tif", re.ASCII)
_IMAGES = re.compile(r"IMG_(\d{6})\.tif", re.ASCII)
FILES_OF_TASK = ("input_data", "reference_data", "ingestion_program", "scoring_program")
_SHELL = ("&", "|", ";", ">", "<", "`", "*")
# What the containers of the two jobs hold below /app
_MOUNTS = {
    "ingestion_program": ("program", "ingested_program", "input_data", "output", "data"),
    "scoring_program": ("program", "input/res", "input/ref", "input", "output", "shared", "data"),
}


@dataclass(frozen=True)
class Part:
    """A folder or a zip inside the bundle: its files by their names below `prefix` of `archive`."""

    archive: zipfile.ZipFile
    prefix: str
    files: dict[str, zipfile.ZipInfo]

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return _read(self.archive, self.prefix + name)

    def ids(self, pattern: re.Pattern[str]) -> set[str]:
        """Patch ids of the files with such names."""
        names = (pattern.fullmatch(name.rsplit("/", 1)[-1]) for name in self.files)
        return {found[1] for found in names if found}


@dataclass
class Findings:
    """What is wrong, what must be settled before an upload, and what the organizer should know."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check_bundle(path: Path, now: datetime.datetime | None = None) -> tuple[list[str], list[str], list[str]]:
    """Problems of the bundle at `path`, notes on what an upload needs beside, and remarks on its data.

    Without problems and notes it is ready.

    `now` is in UTC without a time zone, by default the present. Raises DataError if there is no zip.
    """
    found = Findings()
    try:
        if path.is_fifo():
            raise OSError("it is a pipe")  # which would block
        with open_zip(path, _MAX_DIRECTORY) as archive:
            competition = _read_competition(archive, found)
            if competition is not None:
                now = now or datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
                _check_competition(archive, competition, now, found)
            _check_size(path.stat().st_size, found)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a bundle that build.py wrote"
        ) from None
    except ZipError as error:
        raise DataError(f"{path}: {error}; build it again") from None
    image = competition.get("docker_image") if competition else None
    if not (isinstance(image, str) and image.startswith(LOCAL_IMAGE)):
        found = Findings(found.problems + found.notes, [], found.remarks)
    problems, notes, remarks = (
        list(dict.fromkeys(told)) for told in (found.problems, found.notes, found.remarks)
    )
    return problems, notes, remarks


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    return read_entry(archive, name, _MAX_BYTES)


def _read_competition(archive: zipfile.ZipFile, found: Findings) -> dict[str, Any] | None:
    names = archive.namelist()
    if YAML not in names:
        near = [name for name in names if re.search(r"(competition|bundle)\.ya?ml$", name, re.IGNORECASE)]
        held = f"; it has {list_names(near)}" if near else ""
        found.problems.append(f"no {YAML} at the root of the zip, exactly that name{held}")
        return None
    content = _read(archive, YAML)
    try:
        competition = parse_settings(content)
    except ValueError as error:
        found.problems.append(f"{YAML}: {error}")
        return None
    if not isinstance(competition, dict):
        found.problems.append(f"{YAML}: empty, or not a mapping; expected lines such as 'version: 2'")
        return None
    return competition


def _check_competition(
    archive: zipfile.ZipFile, competition: dict[str, Any], now: datetime.datetime, found: Findings
) -> None:
    found.problems += check_mapping(YAML, competition, COMPETITION, COMPETITION_REQUIRED)
    if "fact_sheet" in competition:
        found.problems += check_fact_sheet(competition["fact_sheet"])
    _check_texts(archive, competition, found)
    if isinstance(image := competition.get("image"), str):
        found.problems += _logo_problems(archive, image)
    if str(competition.get("docker_image")).startswith(LOCAL_IMAGE):
        found.notes.append(
            f"docker_image: {competition['docker_image']} is a name that nobody can pull; publish an image "
            "(bundle/Dockerfile) and build with --image NAME:TAG"
        )
    tasks = _indexed("tasks", competition.get("tasks"), TASK, ("index",), found)
    limits = [_check_task(archive, task, found) for task in tasks.values()]
    _check_phases(archive, competition, tasks, [limit for limit in limits if limit], now, found)
    _check_solutions(archive, competition.get("solutions", []), tasks, found)
    _check_leaderboards(competition.get("leaderboards"), limits, found)
    _check_secrets(archive, competition, found)


def _check_texts(archive: zipfile.ZipFile, competition: dict[str, Any], found: Findings) -> None:
    names = {"terms": competition.get("terms")}
    for place, page in enumerate(_entries(competition.get("pages"))):
        found.problems += check_mapping(f"pages[{place}]", page, PAGE, tuple(PAGE))
        names[f"pages[{place}]"] = page.get("file") if isinstance(page, dict) else None
    for where, name in names.items():
        if not isinstance(name, str):
            continue
        if name not in archive.namelist():
            found.problems.append(_missing(where, name))
            continue
        try:
            text = _read(archive, name).decode()
        except UnicodeDecodeError:
            found.problems.append(f"{where}: {name} is not UTF-8; save it as UTF-8")
            continue
        if not text.strip():
            found.problems.append(f"{where}: {name} is empty; the platform refuses empty pages")


def _logo_problems(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    if name not in archive.namelist():
        yield _missing("image", name)
        return
    if not name.lower().endswith(IMAGE_TYPES):
        yield f"image: {name}; expected a name that ends in {', '.join(IMAGE_TYPES)}"
    try:
        with Image.open(io.BytesIO(_read(archive, name))) as image:
            image.load()
    except ZipError:
        raise
    except Exception:  # Pillow has a different one for each kind of damage
        yield f"image: {name} does not decode as an image; save it as PNG"


def _check_task(archive: zipfile.ZipFile, task: dict[str, Any], found: Findings) -> Limits | None:
    """Check one task; the limits that its ingestion program has, None if they are not to be had."""
    where = f"tasks[{task['index']}]"
    if "key" in task:  # the platform has it already, and looks at nothing else
        return None
    found.problems += [
        f"{where}: {key!r} is missing" for key in ("name", "scoring_program") if key not in task
    ]
    parts = {key: _open(archive, f"{where}.{key}", task.get(key), found) for key in FILES_OF_TASK}
    ingestion, scoring = parts["ingestion_program"], parts["scoring_program"]
    commands = {
        key: _check_program(str(task[key]), part, _MOUNTS[key], found)
        for key, part in (("ingestion_program", ingestion), ("scoring_program", scoring))
        if part
    }
    if "ingestion_program" not in task:
        found.problems.append(f"{where}: no ingestion_program; nothing would run or time the submissions")
    command = commands.get("ingestion_program") or ""
    if "/app/data/" not in command and "input_data" not in task:
        found.notes.append(f"{where}: no input_data; build with --data DATA or --data-on-worker PATH")
    if "/app/data/" in command and "input_data" in task:
        found.problems.append(
            f"{where}: ingestion reads from the worker's /app/data, so leave input_data out"
        )
    if "reference_data" not in task:
        found.notes.append(f"{where}: no reference_data to score against; build with --data DATA")
    _check_data(where, parts["input_data"], parts["reference_data"], found)
    if not ingestion:
        return None
    reference = [name for name in ingestion.files if name.startswith("reference_submission/")]
    if "reference_submission/model.py" not in reference:
        found.problems.append(
            f"{where}.ingestion_program: holds no reference_submission/, the unit of the time limit"
        )
    elif "reference_submission/weights.safetensors" not in reference:
        found.notes.append("the reference is untrained; train it (make reference DATA=...) and build again")
    return _read_limits(f"{where}.ingestion_program", ingestion, found)


def _check_program(where: str, part: Part, mounts: Sequence[str], found: Findings) -> str | None:
    """Check a program's folder; its command, if it has one. `mounts`: what its container has below /app."""
    name = next((name for name in ("metadata.yaml", "metadata") if name in part.files), None)
    if name is None:
        deeper = [name for name in part.files if name.endswith("/metadata.yaml")]
        hint = f"; {deeper[0]} lies in a folder: zip the files, not their folder" if deeper else ""
        found.problems.append(f"{where}: no metadata.yaml at its root, which tells the command{hint}")
        return None
    text = part.read(name)
    try:
        command = parse_settings(text)["command"]
        words = shlex.split(command)
        script = words[1]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        found.problems.append(f"{where}: {name} needs a line such as 'command: python3 score.py ...'")
        return None
    if any(sign in command for sign in _SHELL):
        found.problems.append(f"{where}: the command {command!r} needs a shell, and gets none")
    if "$" in command:
        found.problems.append(
            f"{where}: the command {command!r} has a variable; write the path that it means"
        )
    for word in words:
        below = word.removeprefix("/app/")
        if below != word and not any(below == place or below.startswith(f"{place}/") for place in mounts):
            there = ", ".join(f"/app/{place}" for place in mounts)
            found.problems.append(f"{where}: the command names {word}; its container has {there}")
    if words[0] != "python3" or script not in part.files:
        found.problems.append(
            f"{where}: the command {command!r} must start with python3 and a file of the program"
        )
    if "--platform" not in words:
        found.problems.append(f"{where}: the command {command!r} lacks --platform, so any result would count")
    if KEY not in part.files:
        found.problems.append(f"{where}: no {KEY}; build.py puts the same one into both programs")
    commit = (
        part.read("flair_scoring/COMMIT").decode(errors="replace").strip()
        if "flair_scoring/COMMIT" in part.files
        else "unknown"
    )
    if commit == "unknown" or commit.endswith("-dirty"):
        found.notes.append(f"built from commit {commit}; commit all changes and build again")
    return command


def _check_data(where: str, inputs: Part | None, references: Part | None, found: Findings) -> None:
    if inputs and (labels := inputs.ids(_LABELS)):
        found.problems.append(
            f"{where}.input_data: holds {len(labels)} label masks, which submissions could read"
        )
    if inputs:
        _check_completeness(where, inputs, found)
    if not references:
        return
    known = references.ids(_LABELS)
    if not known:
        found.problems.append(f"{where}.reference_data: no masks MSK_<6 digits>.tif")
    masks = Counter(domain_and_area(name)[0] for name in references.files if _LABELS.search(name))
    domains = set(masks)
    if known and ("" in domains or len(domains) < MIN_DOMAINS):
        found.problems.append(
            f"{where}.reference_data: masks of {len(domains - {''})} domains in folders such as D022_2021; "
            f"below {MIN_DOMAINS} scoring writes no interval, and its columns stay empty"
        )
    if single := sorted(domain for domain, count in masks.items() if domain and count == 1):
        found.problems.append(
            f"{where}.reference_data: one mask only in {list_names(single)}; participants get a matrix for "
            "each domain, which would tell what is in that mask: take more patches, or no such domain"
        )
    if inputs and inputs.ids(_IMAGES) != known:
        found.problems.append(
            f"{where}: input_data has {len(inputs.ids(_IMAGES))} images, reference_data {len(known)} masks, "
            "and they are not the same patches"
        )


def _check_completeness(where: str, inputs: Part, found: Findings) -> None:
    """Remark on test patches that the metadata json of the inputs knows and the inputs do not hold."""
    if METADATA[0] not in inputs.files:
        found.problems.append(f"{where}.input_data: no {METADATA[0]} at its root")
        return
    try:
        entries = parse_json(inputs.read(METADATA[0]))
    except (ValueError, ZipError) as error:
        found.problems.append(f"{where}.input_data: {METADATA[0]} is not a readable json file ({error})")
        return
    known = find_known(entries if isinstance(entries, dict) else {}).get("test", {})
    here = {id: known.get(id, "") for id in inputs.ids(_IMAGES)}
    found.remarks += [f"{where}.input_data: {told}" for told in describe_missing("test", here, known)]


def _read_limits(where: str, part: Part, found: Findings) -> Limits | None:
    if "limits.yaml" not in part.files:
        found.problems.append(f"{where}: no limits.yaml")
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "limits.yaml")
        path.write_bytes(part.read("limits.yaml"))
        try:
            return read_limits(path)
        except FlairError as error:
            found.problems.append(f"{where}: {str(error).replace(folder + '/', '')}")
            return None


def _check_phases(
    archive: zipfile.ZipFile,
    competition: dict[str, Any],
    tasks: dict[Hashable, Any],
    limits: list[Limits],
    now: datetime.datetime,
    found: Findings,
) -> None:
    phases = _entries(competition.get("phases"))
    for place, phase in enumerate(phases):
        found.problems += check_mapping(f"phases[{place}]", phase, PHASE, ("name", "start", "tasks"))
    phases = [phase for phase in phases if isinstance(phase, dict)]
    if all(is_whole(phase.get("index", 0)) for phase in phases):
        phases.sort(key=lambda phase: phase.get("index", 0))  # as the importer does
    needed = max((limit.wall_seconds for limit in limits), default=0) + SCORING_SECONDS
    for place, phase in enumerate(phases):
        where = f"phases[{place}]"
        found.problems += _unknown_tasks(where, phase.get("tasks"), tasks)
        seconds = phase.get("execution_time_limit", DEFAULT_QUEUE_SECONDS)
        if limits and is_whole(seconds) and seconds < needed:
            found.problems.append(
                f"{where}: execution_time_limit is {seconds} s; ingestion alone may take its wall_seconds: "
                f"set at least {needed:g}"
            )
        if is_whole(seconds) and seconds > DEFAULT_QUEUE_SECONDS and "queue" not in competition:
            found.notes.append(
                f"{where}: execution_time_limit is {seconds} s, but the default queue stops after "
                f"{DEFAULT_QUEUE_SECONDS} s and has no GPU; set a queue of your own in bundle.yaml"
            )
        for key in ("starting_kit", "public_data"):
            _open(archive, f"{where}.{key}", phase.get(key), found)
        if phase.get("auto_migrate_to_this_phase") is True and place == 0:
            found.problems.append(f"{where}: auto_migrate_to_this_phase is refused in the first phase")
    _check_dates(phases, now, found)


def _check_dates(phases: list[dict[str, Any]], now: datetime.datetime, found: Findings) -> None:
    for place, phase in enumerate(phases):
        start, end = parse_date(phase.get("start")), parse_date(phase.get("end"))
        last = place == len(phases) - 1
        if "end" not in phase and not last:
            found.problems.append(f"phases[{place}]: no end, but a phase follows; only the last may be open")
        if start and end and end <= start:
            found.problems.append(f"phases[{place}]: ends at {end}, not after its start at {start}")
        following = parse_date(phases[place + 1].get("start")) if not last else None
        if end and following and following <= end:
            found.problems.append(
                f"phases[{place + 1}]: starts at {following}, not after the end of phases[{place}] at {end}"
            )
        if end and last and end < now:
            found.notes.append(f"phases[{place}]: the last phase has ended at {end}; set dates to come")


def _check_solutions(
    archive: zipfile.ZipFile, solutions: Any, tasks: dict[Hashable, Any], found: Findings
) -> None:
    for index, solution in _indexed("solutions", solutions, SOLUTION, ("index", "tasks"), found).items():
        where = f"solutions[{index}]"
        found.problems += _unknown_tasks(where, solution.get("tasks"), tasks)
        if "path" not in solution and "key" not in solution:
            found.problems.append(f"{where}: needs a path or a key")
        part = _open(archive, f"{where}.path", solution.get("path"), found)
        if part is None or part.prefix:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "solution.zip")
            path.write_bytes(_read(archive, solution["path"]))
            try:
                open_submission(path, read_limits().submission_mib)
            except FlairError as error:
                found.problems.append(f"{where}: {str(error).replace(str(path), solution['path'])}")


def _check_leaderboards(leaderboards: Any, limits: list[Limits | None], found: Findings) -> None:
    boards = _entries(leaderboards)
    if len(boards) > 1:
        found.problems.append(
            f"leaderboards: there are {len(boards)}; every phase uses the first, so keep one"
        )
    for place, board in enumerate(boards):
        where = f"leaderboards[{place}]"
        found.problems += check_mapping(where, board, LEADERBOARD, ("title", "key", "columns"))
        if isinstance(board, dict):
            _check_columns(where, board, limits, found)


def _check_columns(where: str, board: dict[str, Any], limits: list[Limits | None], found: Findings) -> None:
    columns = _indexed(f"{where}.columns", board.get("columns"), COLUMN, ("index", "key", "title"), found)
    keys = [column.get("key") for column in columns.values()]
    found.problems += [
        f"{where}.columns: the key {key!r} occurs {keys.count(key)} times"
        for key in dict.fromkeys(map(str, keys))
        if keys.count(key) > 1
    ]
    relative = all(limit.ratio is not None for limit in limits if limit)
    written = _written_keys(relative)
    for index, column in columns.items():
        found.problems += _computation_problems(f"{where}.columns[{index}]", index, column, columns)
        if "computation" not in column and column.get("key") not in written:
            found.problems.append(
                f"{where}.columns[{index}]: scoring does not write {column.get('key')!r}, and a row "
                f"without a value ranks first; it writes {', '.join(written)}"
            )
    index = board.get("primary_index", 0)
    primary = columns.get(index, {}) if is_whole(index) else {}
    if (primary.get("key"), primary.get("sorting", "desc")) != (PRIMARY, "desc"):
        found.problems.append(
            f"{where}: primary_index must be that of the column {PRIMARY}, which sorts desc"
        )
    if is_whole(precision := primary.get("precision", 2)) and precision < 4:
        found.problems.append(
            f"{where}: precision {precision} of {PRIMARY} hides differences; set at least 4"
        )


def _computation_problems(
    where: str, index: Hashable, column: dict[str, Any], columns: dict[Hashable, Any]
) -> Iterator[str]:
    if ("computation" in column) != ("computation_indexes" in column):
        yield f"{where}: computation and computation_indexes need each other"
    indexes = column.get("computation_indexes")
    for other in indexes if isinstance(indexes, list) else []:
        if other == index:
            yield f"{where}: is computed from itself"
        elif is_whole(other) and other not in columns:
            yield f"{where}: is computed from column {other!r}, which does not exist"


def _written_keys(relative: bool) -> list[str]:
    """Keys that scoring writes from MIN_DOMAINS domains on; `relative` says whether a reference is timed."""
    return [key for key in score_keys() if relative or key != TIME_RATIO]


def _check_secrets(archive: zipfile.ZipFile, competition: dict[str, Any], found: Findings) -> None:
    """The key in the programs only and the same everywhere; no reference among what participants get."""
    tasks = [task for task in _entries(competition.get("tasks")) if isinstance(task, dict)]
    programs = [task.get(key) for task in tasks for key in ("ingestion_program", "scoring_program")]
    references = [task.get("reference_data") for task in tasks]
    parts = {
        name: part
        for name in archive.namelist()
        if name.endswith(".zip") and (part := _open(archive, name, name, Findings()))
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
            found.problems.append(f"{name}: {leaks[0]} and {len(leaks) - 1} more are also in the references")


def _check_size(size: int, found: Findings) -> None:
    if size > MAX_BYTES:
        found.problems.append(
            f"the bundle has {size / 1e9:.1f} GB; a user may store {MAX_BYTES / 1e9:.0f}: leave the inputs "
            "on the workers (--data-on-worker PATH)"
        )
    elif size > LARGE_BYTES:
        found.notes.append(
            f"the bundle has {size / 1e9:.1f} GB; such uploads have been seen to hang: leave the inputs "
            "on the workers (--data-on-worker PATH)"
        )


def _open(archive: zipfile.ZipFile, where: str, value: Any, found: Findings) -> Part | None:
    """The folder or zip that a value names; None with a problem, and without one for UUIDs and non-texts."""
    if not isinstance(value, str) or is_uuid(value):
        return None
    names = archive.namelist()
    if value in names and not value.endswith("/"):
        try:
            # through a handle of its own: Python 3.12.1 loses its place in members that are read in turn
            again = zipfile.ZipFile(archive.filename)
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
        found.problems.append(_missing(where, value))
        return None
    if not value.endswith("/"):
        found.problems.append(
            f"{where}: write the folder as {prefix!r}; without the slash imports can collide"
        )
    return Part(archive, prefix, files)


def _indexed(
    where: str, value: Any, keys: dict[str, Any], required: tuple[str, ...], found: Findings
) -> dict[Hashable, dict[str, Any]]:
    """Index -> entry of a list whose entries have unique indexes; the others are problems."""
    entries: dict[Hashable, dict[str, Any]] = {}
    for place, entry in enumerate(_entries(value)):
        found.problems += check_mapping(f"{where}[{place}]", entry, keys, required)
        if not isinstance(entry, dict) or "index" not in entry:
            continue
        index = entry["index"]
        if not isinstance(index, Hashable):
            found.problems.append(f"{where}[{place}]: index is {index!r}; expected a number")
        elif index in entries:
            found.problems.append(f"{where}[{place}]: the index {index!r} is taken by another entry")
        else:
            entries[index] = entry
    return entries


def _unknown_tasks(where: str, indexes: Any, tasks: dict[Hashable, Any]) -> list[str]:
    return [
        f"{where}: there is no task {index!r}; known are {', '.join(map(repr, tasks)) or 'none'}"
        for index in _entries(indexes)
        if not isinstance(index, Hashable) or index not in tasks
    ]


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _missing(where: str, name: str) -> str:
    return f"{where}: {name} is not in the bundle; paths start at its root"
