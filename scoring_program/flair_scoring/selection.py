"""Which results count: those that the organizer does not exclude, and one of each participant."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flair_scoring.errors import DataError, UsageError, list_names, list_problems
from flair_scoring.files import read_file
from flair_scoring.ranking import Result

_HEAD = ["result", "participant"]
_BYTES = 1 << 22


def exclude(results: Sequence[Result], reasons: Mapping[str, str]) -> list[Result]:
    """The results, those in `reasons` (by name) left out with their reason; UsageError for another name."""
    _require_known(results, reasons, "--exclude")
    return [
        replace(result, left_out=f"excluded: {reasons[result.name]}") if result.name in reasons else result
        for result in results
    ]


def keep_one_each(results: Sequence[Result], participants: Mapping[str, str], latest: bool) -> list[Result]:
    """The results, of each participant all but one left out; those with a score that are not left out yet.

    `participants`: who has sent a result, by its name, earlier results first. A result that is not there is
    the only one of its participant. The one that stays is the best, or with `latest` the last. Raises
    UsageError for a name that is no result.
    """
    _require_known(results, participants, "--participants")
    places = {name: place for place, name in enumerate(participants)}
    candidates = [r for r in results if r.name in participants and r.scores and not r.left_out]
    candidates.sort(key=lambda result: places[result.name] if latest else result.scores["miou"])
    kept = {participants[result.name]: result.name for result in candidates}  # the last one of each
    rule = "latest" if latest else "best"
    reasons = {
        result.name: f"of {who}, whose {rule} result is {kept[who]}"
        for result in candidates
        if kept[who := participants[result.name]] != result.name
    }
    return [
        replace(result, left_out=reasons[result.name]) if result.name in reasons else result
        for result in results
    ]


def read_participants(path: Path) -> dict[str, str]:
    """A csv file with the columns result and participant; participants by result, in the order of the lines.

    Raises UsageError if it cannot be read, DataError with all lines that are wrong.
    """
    try:
        text = read_file(path, _BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{path}: is no text in UTF-8; expected a csv file") from None
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or [cell.strip() for cell in lines[0]] != _HEAD:
        raise DataError(f"{path}: expected the first line {','.join(_HEAD)}")
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in line]
        if len(cells) != len(_HEAD) or not all(cells):
            if cells:
                problems.append(f"line {number}: expected the name of a result and a participant")
        elif cells[0] in found:
            problems.append(f"line {number}: {cells[0]} stands in two lines")
        else:
            found[cells[0]] = cells[1]
    if problems:
        raise DataError(list_problems(f"{path}: cannot be used", problems))
    return found


def _require_known(results: Sequence[Result], names: Mapping[str, str], option: str) -> None:
    known = {result.name for result in results}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{option}: no result of the name {list_names(unknown)}; there are {list_names(sorted(known))}"
        )
