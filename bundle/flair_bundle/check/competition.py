"""competition.yaml and what it names: pages, logo, phases with their dates, solutions."""

from __future__ import annotations

import datetime
import io
import re
import tempfile
import zipfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from flair_bundle.check.findings import Findings, by_index, entries_of, missing
from flair_bundle.check.parts import open_part, read
from flair_bundle.schema import (
    IMAGE_TYPES,
    PAGE,
    PHASE,
    SOLUTION,
    check_groups,
    check_mapping,
    is_uuid,
    is_whole,
    parse_date,
    unstorable_character,
)
from flair_ingestion.limits import Limits, read_limits
from flair_ingestion.submission import open_submission
from flair_scoring.base.bounded_zip import ZipError
from flair_scoring.base.errors import FlairError, list_names
from flair_scoring.base.settings import parse_settings

YAML = "competition.yaml"
DEFAULT_QUEUE_SECONDS = 600
SCORING_SECONDS = 300  # for the container's start and for scoring, beside ingestion's wall_seconds


def read_competition(archive: zipfile.ZipFile, found: Findings) -> dict[str, Any] | None:
    """The content of competition.yaml; None, with a problem, if it is missing or unreadable."""
    names = archive.namelist()
    if YAML not in names:
        near = [name for name in names if re.search(r"(competition|bundle)\.ya?ml$", name, re.IGNORECASE)]
        held = f"; it has {list_names(near)}" if near else ""
        found.problems.append(f"no {YAML} at the root of the zip, exactly that name{held}")
        return None
    content = read(archive, YAML)
    try:
        competition = parse_settings(content)
    except ValueError as error:
        found.problems.append(f"{YAML}: {error}")
        return None
    if not isinstance(competition, dict):
        found.problems.append(f"{YAML}: empty, or not a mapping; expected lines such as 'version: 2'")
        return None
    return competition


def unstorable_texts(where: str, value: Any) -> list[str]:
    """Problems of all texts in a value of competition.yaml that the platform cannot store."""
    problems = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and (character := unstorable_character(key)):
                problems.append(_unstorable(f"{YAML}: a key" + (f" of {where}" if where else ""), character))
            else:
                problems += unstorable_texts(f"{where}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            problems += unstorable_texts(f"{where}[{index}]", inner)
    elif isinstance(value, str) and (character := unstorable_character(value)):
        problems.append(_unstorable(f"{YAML}: {where}", character))
    return problems


def _unstorable(where: str, character: str) -> str:
    return f"{where} holds the character {character}, which the platform cannot store; remove it"


def check_queues(competition: dict[str, Any], found: Findings) -> None:
    """Remark on what only the upload shows of the competition's queue and of those of its groups."""
    queue = competition.get("queue")
    if is_uuid(queue):
        found.remarks.append(
            f"queue: only the upload shows whether the platform has {queue} and lets you use it"
        )
    if "groups" in competition:
        found.remarks.append(
            "groups: only some versions of the platform read this key; on the others the submissions of all "
            "groups go to the competition's queue"
        )
        found.remarks += check_groups(competition["groups"])


def check_texts(archive: zipfile.ZipFile, competition: dict[str, Any], found: Findings) -> None:
    """Check that the terms and all pages are in the bundle, are UTF-8 and say something."""
    names = {"terms": competition.get("terms")}
    for index, page in enumerate(entries_of(competition.get("pages"))):
        found.problems += check_mapping(f"pages[{index}]", page, PAGE, tuple(PAGE))
        names[f"pages[{index}]"] = page.get("file") if isinstance(page, dict) else None
    for where, name in names.items():
        if not isinstance(name, str):
            continue
        if name not in archive.namelist():
            found.problems.append(missing(where, name))
            continue
        try:
            text = read(archive, name).decode()
        except UnicodeDecodeError:
            found.problems.append(f"{where}: {name} is not UTF-8; save it as UTF-8")
            continue
        if not text.strip():
            found.problems.append(f"{where}: {name} is empty; the platform refuses empty pages")
        if character := unstorable_character(text):
            found.problems.append(_unstorable(f"{where}: {name}", character))


def logo_problems(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Problems of the logo, which must be an image that decodes."""
    if name not in archive.namelist():
        yield missing("image", name)
        return
    if not name.lower().endswith(IMAGE_TYPES):
        yield f"image: {name}; expected a name that ends in {', '.join(IMAGE_TYPES)}"
    try:
        with Image.open(io.BytesIO(read(archive, name))) as image:
            image.load()
    except ZipError:
        raise
    except Exception:  # Pillow has a different one for each kind of damage
        yield f"image: {name} does not decode as an image; save it as PNG"


def check_phases(
    archive: zipfile.ZipFile,
    competition: dict[str, Any],
    tasks: dict[Hashable, Any],
    limits: list[Limits],
    now: datetime.datetime,
    found: Findings,
) -> None:
    """Check the phases against the tasks, the time that ingestion may take, and the present `now`."""
    phases = entries_of(competition.get("phases"))
    for index, phase in enumerate(phases):
        found.problems += check_mapping(f"phases[{index}]", phase, PHASE, ("name", "start", "tasks"))
    phases = [phase for phase in phases if isinstance(phase, dict)]
    if all(is_whole(phase.get("index", 0)) for phase in phases):
        phases.sort(key=lambda phase: phase.get("index", 0))  # as the importer does
    needed = max((limit.wall_seconds for limit in limits), default=0) + SCORING_SECONDS
    for index, phase in enumerate(phases):
        where = f"phases[{index}]"
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
            open_part(archive, f"{where}.{key}", phase.get(key), found)
        if phase.get("auto_migrate_to_this_phase") is True and index == 0:
            found.problems.append(f"{where}: auto_migrate_to_this_phase is refused in the first phase")
    _check_dates(phases, now, found)


def _check_dates(phases: list[dict[str, Any]], now: datetime.datetime, found: Findings) -> None:
    first = parse_date(phases[0].get("start")) if phases else None
    if first and first > now:
        found.remarks.append(
            f"phases[0]: starts at {first}, in the future; until then the site refuses even the organizer's "
            "own rehearsal: set the start of every phase to the past first"
        )
    for index, phase in enumerate(phases):
        start, end = parse_date(phase.get("start")), parse_date(phase.get("end"))
        last = index == len(phases) - 1
        if "end" not in phase and not last:
            found.problems.append(f"phases[{index}]: no end, but a phase follows; only the last may be open")
        if start and end and end <= start:
            found.problems.append(f"phases[{index}]: ends at {end}, not after its start at {start}")
        following = parse_date(phases[index + 1].get("start")) if not last else None
        if end and following and following <= end:
            found.problems.append(
                f"phases[{index + 1}]: starts at {following}, not after the end of phases[{index}] at {end}"
            )
        if end and last and end < now:
            found.notes.append(f"phases[{index}]: the last phase has ended at {end}; set dates to come")


def check_solutions(
    archive: zipfile.ZipFile, solutions: Any, tasks: dict[Hashable, Any], found: Findings
) -> None:
    """Check that each solution names a task and is a submission that ingestion would open."""
    for index, solution in by_index("solutions", solutions, SOLUTION, ("index", "tasks"), found).items():
        where = f"solutions[{index}]"
        found.problems += _unknown_tasks(where, solution.get("tasks"), tasks)
        if "path" not in solution and "key" not in solution:
            found.problems.append(f"{where}: needs a path or a key")
        part = open_part(archive, f"{where}.path", solution.get("path"), found)
        if part is None or part.prefix:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "solution.zip")
            path.write_bytes(read(archive, solution["path"]))
            try:
                open_submission(path, read_limits().submission_mib)
            except FlairError as error:
                found.problems.append(f"{where}: {str(error).replace(str(path), solution['path'])}")


def _unknown_tasks(where: str, indexes: Any, tasks: dict[Hashable, Any]) -> list[str]:
    return [
        f"{where}: there is no task {index!r}; known are {', '.join(map(repr, tasks)) or 'none'}"
        for index in entries_of(indexes)
        if not isinstance(index, Hashable) or index not in tasks
    ]
