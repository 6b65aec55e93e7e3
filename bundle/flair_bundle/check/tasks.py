"""The tasks of competition.yaml: their programs, with commands and limits, and their data."""

from __future__ import annotations

import shlex
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flair_bundle.check.findings import Findings
from flair_bundle.check.parts import Part, open_part
from flair_ingestion.dataset import METADATA, describe_missing, find_known
from flair_ingestion.limits import Limits, read_limits
from flair_scoring.base.bounded_json import parse_json
from flair_scoring.base.bounded_zip import ZipError
from flair_scoring.base.errors import FlairError, list_names
from flair_scoring.base.settings import parse_settings
from flair_scoring.pairing import IMAGE, REFERENCE, domain_and_area

FILES_OF_TASK = ("input_data", "reference_data", "ingestion_program", "scoring_program")
KEY = "signing.key"
MIN_DOMAINS = 3  # below, scoring writes no interval
_SHELL = ("&", "|", ";", ">", "<", "`", "*")
# What the containers of the two jobs hold below /app
_MOUNTS = {
    "ingestion_program": ("program", "ingested_program", "input_data", "output", "data"),
    "scoring_program": ("program", "input/res", "input/ref", "input", "output", "shared", "data"),
}


def check_task(archive: zipfile.ZipFile, task: dict[str, Any], found: Findings) -> Limits | None:
    """Check one task; the limits that its ingestion program has, None if they are not to be had."""
    where = f"tasks[{task['index']}]"
    if "key" in task:  # the platform has it already, and looks at nothing else
        return None
    found.problems += [
        f"{where}: {key!r} is missing" for key in ("name", "scoring_program") if key not in task
    ]
    parts = {key: open_part(archive, f"{where}.{key}", task.get(key), found) for key in FILES_OF_TASK}
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
    return read_limits_of(f"{where}.ingestion_program", ingestion, found)


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
        if below != word and not any(below == mount or below.startswith(f"{mount}/") for mount in mounts):
            there = ", ".join(f"/app/{mount}" for mount in mounts)
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
    if inputs and (labels := inputs.ids(REFERENCE)):
        found.problems.append(
            f"{where}.input_data: holds {len(labels)} label masks, which submissions could read"
        )
    if inputs:
        _check_completeness(where, inputs, found)
    if not references:
        return
    known = references.ids(REFERENCE)
    if not known:
        found.problems.append(f"{where}.reference_data: no masks MSK_<6 digits>.tif")
    masks = Counter(domain_and_area(name)[0] for name in references.files if REFERENCE.search(name))
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
    if inputs and inputs.ids(IMAGE) != known:
        found.problems.append(
            f"{where}: input_data has {len(inputs.ids(IMAGE))} images, reference_data {len(known)} masks, "
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
    here = {id: known.get(id, "") for id in inputs.ids(IMAGE)}
    found.remarks += [f"{where}.input_data: {told}" for told in describe_missing("test", here, known)]


def read_limits_of(where: str, part: Part, found: Findings) -> Limits | None:
    """The limits of an ingestion program; None, with a problem, if it has no valid limits.yaml."""
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
