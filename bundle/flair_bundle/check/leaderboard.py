"""The leaderboards of competition.yaml: columns that scoring fills, and how they are sorted."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from flair_bundle.check.findings import Findings, by_index, entries_of
from flair_bundle.schema import AVERAGE_RANK, COLUMN, LEADERBOARD, check_mapping, is_whole
from flair_ingestion.limits import Limits
from flair_scoring.outputs.scores import TIME_RATIO, score_keys

PRIMARY = "miou"


def check_leaderboards(leaderboards: Any, limits: list[Limits | None], found: Findings) -> None:
    """Check the boards; `limits` of the tasks tell whether a time ratio is written."""
    boards = entries_of(leaderboards)
    if len(boards) > 1:
        found.problems.append(
            f"leaderboards: there are {len(boards)}; every phase uses the first, so keep one"
        )
    for index, board in enumerate(boards):
        where = f"leaderboards[{index}]"
        found.problems += check_mapping(where, board, LEADERBOARD, ("title", "key", "columns"))
        if isinstance(board, dict):
            _check_columns(where, board, limits, found)


def _check_columns(where: str, board: dict[str, Any], limits: list[Limits | None], found: Findings) -> None:
    columns = by_index(f"{where}.columns", board.get("columns"), COLUMN, ("index", "key", "title"), found)
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
                f"{where}.columns[{index}]: scoring does not write {column.get('key')!r}, so no row "
                "has a value there, and such rows come first in some versions of the platform and last in "
                f"others; it writes {', '.join(written)}"
            )
        if column.get("computation") == AVERAGE_RANK:
            found.remarks.append(
                f"{where}.columns[{index}]: only the platform's versions from 1.29 on know the computation "
                f"{AVERAGE_RANK}; older ones refuse the bundle"
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
    """Keys that scoring writes for enough domains; `relative` says whether a reference is timed."""
    return [key for key in score_keys() if relative or key != TIME_RATIO]
