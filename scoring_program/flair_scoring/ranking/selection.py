"""Which results count: those that the organizer does not exclude, and one of each participant."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flair_scoring.base.errors import DataError, UsageError, list_names, list_problems
from flair_scoring.base.files import read_file
from flair_scoring.base.terminal import one_line
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import sort_results

_HEAD = ["result", "participant"]
_BYTES = 1 << 22
_SHOWN = 60  # characters of a wrong first line


def exclude(results: Sequence[Result], reasons: Mapping[str, str]) -> list[Result]:
    """Leave out results for the reasons given, by name; UsageError for a name that no result has."""
    _require_known(results, reasons, "--exclude")
    return [
        replace(result, left_out=f"excluded: {reasons[result.name]}") if result.name in reasons else result
        for result in results
    ]


def keep_one_each(results: Sequence[Result], participants: Mapping[str, str], latest: bool) -> list[Result]:
    """Keep one result of each participant and leave out the others.

    Results without a score, and those that are left out already, stay as they are. `participants` is the
    participant of each result by its name, earlier results first. The best result is kept, and the fastest of
    equally good ones; with `latest` it is the last one. Raises UsageError for a name that no result has, and
    for a result without a participant.
    """
    _require_known(results, participants, "--participants")
    position = {name: index for index, name in enumerate(participants)}
    candidates = [r for r in sort_results(results) if r.scores and not r.left_out]
    if unnamed := [result.name for result in candidates if result.name not in participants]:
        raise UsageError(
            f"--participants: no line for {list_names(unnamed)}; expected one line for each result"
        )
    if latest:
        candidates.sort(key=lambda result: -position[result.name])
    kept: dict[str, str] = {}  # participant -> name of the first candidate
    for result in candidates:
        kept.setdefault(participants[result.name], result.name)
    rule = "latest" if latest else "best"
    reasons = {
        result.name: f"not ranked: {kept[who]} is the {rule} of the results of {who} that count"
        for result in candidates
        if kept[who := participants[result.name]] != result.name
    }
    return [
        replace(result, left_out=reasons[result.name]) if result.name in reasons else result
        for result in results
    ]


def read_participants(path: Path) -> dict[str, str]:
    """Read a csv file with the columns result and participant.

    Returns the participant of each result by the name of the result, in the order of the lines. Raises
    UsageError if the file cannot be read, and DataError with all lines that are wrong.
    """
    try:
        text = read_file(path, _BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{path}: is not text in UTF-8; expected a csv file") from None
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: is not a csv file ({error})") from None
    if not lines or [cell.strip() for cell in lines[0]] != _HEAD:
        first = one_line(text.partition("\n")[0].strip()[:_SHOWN])
        raise DataError(f"{path}: the first line is {first!r}; expected {','.join(_HEAD)}, with a comma")
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in line]
        if len(cells) != len(_HEAD) or not all(cells) or "\n" in "".join(cells):
            if cells:
                problems.append(f"line {number}: expected the name of a result and a participant")
        elif cells[0] in found:
            problems.append(f"line {number}: {cells[0]} is in two lines")
        else:
            found[cells[0]] = cells[1]
    spellings: dict[str, str] = {}
    for who in dict.fromkeys(found.values()):
        if (first := spellings.setdefault(who.casefold(), who)) != who:
            problems.append(f"{first} and {who} differ in capital letters only; choose one spelling")
    if problems:
        raise DataError(list_problems(f"{path}: cannot be used", problems))
    return found


def _require_known(results: Sequence[Result], names: Mapping[str, str], option: str) -> None:
    known = {result.name for result in results}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{option}: no result is named {list_names(unknown)}; there are {list_names(sorted(known))}"
        )
