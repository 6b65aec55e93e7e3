"""Examine a bundle before the upload: what the platform refuses, ignores, or lets through to fail later.

Three lists come out: problems, what only matters once the bundle is uploaded, and remarks, which may be as
meant. A bundle whose image is LOCAL_IMAGE is meant for use at home; for any other one the second list holds
problems as well. Others import names of this folder from here: build.py, rehearse.py, other modules of
flair_bundle and tests may import it.
"""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

from flair_bundle.check.competition import (
    DEFAULT_QUEUE_SECONDS,
    YAML,
    check_phases,
    check_queues,
    check_solutions,
    check_texts,
    logo_problems,
    read_competition,
    unstorable_texts,
)
from flair_bundle.check.findings import Findings, by_index
from flair_bundle.check.leaderboard import check_leaderboards
from flair_bundle.check.parts import check_damage, open_part
from flair_bundle.check.secrets import check_secrets
from flair_bundle.check.tasks import FILES_OF_TASK, check_task, read_limits_of
from flair_bundle.schema import COMPETITION, COMPETITION_REQUIRED, TASK, check_fact_sheet, check_mapping
from flair_scoring.base.bounded_zip import ZipError, open_zip
from flair_scoring.base.errors import DataError

__all__ = [
    "DEFAULT_QUEUE_SECONDS",
    "FILES_OF_TASK",
    "LOCAL_IMAGE",
    "MAX_DIRECTORY",
    "Findings",
    "check_bundle",
    "open_part",
    "read_competition",
    "read_limits_of",
]

LOCAL_IMAGE = "local-only/"  # what the name of an image begins with that nobody has published
MAX_BYTES = 15 * 10**9  # what a user of the public site may store
LARGE_BYTES = 10**9  # a bundle of this size has been seen to unpack without end
MAX_DIRECTORY = 256 << 20  # bytes of the list of files: a million of them, with all their patches


def check_bundle(path: Path, now: datetime.datetime | None = None) -> tuple[list[str], list[str], list[str]]:
    """Problems of the bundle at `path`, notes on what an upload needs as well, and remarks on its data.

    A bundle without problems and notes is ready for the platform. `now` is a time in UTC without a time zone,
    by default the present. Raises DataError if the file is no zip.
    """
    found = Findings()
    try:
        if path.is_fifo():
            raise OSError("it is a pipe")  # which would block
        with open_zip(path, MAX_DIRECTORY) as archive:
            competition = read_competition(archive, found)
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


def _check_competition(
    archive: zipfile.ZipFile, competition: dict[str, Any], now: datetime.datetime, found: Findings
) -> None:
    found.problems += check_mapping(YAML, competition, COMPETITION, COMPETITION_REQUIRED)
    found.problems += unstorable_texts("", competition)
    if "fact_sheet" in competition:
        found.problems += check_fact_sheet(competition["fact_sheet"])
    check_texts(archive, competition, found)
    check_queues(competition, found)
    if isinstance(image := competition.get("image"), str):
        found.problems += logo_problems(archive, image)
    if str(competition.get("docker_image")).startswith(LOCAL_IMAGE):
        found.notes.append(
            f"docker_image: {competition['docker_image']} is a name that nobody can pull; publish an image "
            "(bundle/Dockerfile) and build with --image NAME:TAG"
        )
    tasks = by_index("tasks", competition.get("tasks"), TASK, ("index",), found)
    limits = [check_task(archive, task, found) for task in tasks.values()]
    check_phases(archive, competition, tasks, [limit for limit in limits if limit], now, found)
    check_solutions(archive, competition.get("solutions", []), tasks, found)
    check_leaderboards(competition.get("leaderboards"), limits, found)
    check_secrets(archive, competition, found)
    check_damage(archive, found)


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
