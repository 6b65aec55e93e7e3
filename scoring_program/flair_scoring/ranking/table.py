"""A leaderboard as records and as a pandas DataFrame: one row per result, with all that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, Standing, is_comparable, pareto_front

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("name", "verdict", "reason", "left_out")
_TYPES = {
    **dict.fromkeys(("rank", "group"), "Int64"),
    **dict.fromkeys(("pareto", "time_comparable"), "boolean"),
    **dict.fromkeys(TEXTS, "string"),
}


def make_records(board: Board) -> list[dict[str, Any]]:
    """One record per result: the ranked ones in their order, then the others.

    A ranked result has rank, group, p-values and whether it is on the Pareto front. All have the name, the
    verdict and the reason of timing.json, whether the time is comparable, and their scores. A key is missing
    or None where nothing is known.
    """
    front = pareto_front([standing.result for standing in board.standings])
    ranked = [_record_ranked(standing, front, board) for standing in board.standings]
    others = [result for result in board.results if result.left_out or not result.scores]
    return [*ranked, *(_record_other(result, board) for result in others)]


def standings_table(board: Board) -> pd.DataFrame:
    """The leaderboard as a pandas DataFrame.

    Args:
        board: What `make_board` returns.

    Returns:
        One row per result, in the order and with the keys of `make_records`; missing values are NA. `rank`
        and `group` are integers, `pareto` and `time_comparable` are booleans, `name`, `verdict`, `reason` and
        `left_out` are texts, and all other columns are float64.

    Example:
        >>> from flair_scoring.ranking.results import Result
        >>> from flair_scoring.ranking.standings import make_board
        >>> from flair_scoring.ranking.table import standings_table
        >>> results = [Result(name, {"miou": miou}, {}, {}) for name, miou in (("a", 0.58), ("b", 0.61))]
        >>> print(standings_table(make_board(results))[["rank", "name", "miou"]].to_string(index=False))
         rank name  miou
            1    b  0.61
            2    a  0.58
    """
    import pandas as pd  # here, since it takes 0.2 s and only tables need it

    records = make_records(board)
    columns = list(dict.fromkeys(key for record in records for key in record))
    types = {column: _TYPES.get(column, "float64") for column in columns}
    return pd.DataFrame(records, columns=columns).astype(types)


def _record_ranked(standing: Standing, front: set[str], board: Board) -> dict[str, Any]:
    result = standing.result
    return {
        "rank": standing.rank,
        "name": result.name,
        "group": standing.group,
        "p_leader": standing.p_leader,
        "p_above": standing.p_above,
        "verdict": result.timing.get("verdict"),
        "reason": result.timing.get("reason"),
        "pareto": result.name in front,
        "time_comparable": is_comparable(result, board),
        **result.scores,
    }


def _record_other(result: Result, board: Board) -> dict[str, Any]:
    """A result that has no score or is left out; without a score its times come from timing.json."""
    record: dict[str, Any] = {"name": result.name}
    record |= {key: result.timing.get(key) for key in ("verdict", "reason")}
    if not result.scores:
        record["inference_seconds"] = result.timing.get("inference_seconds")
        record["time_ratio"] = result.timing.get("ratio")
    record["time_comparable"] = is_comparable(result, board)
    if result.left_out:
        record["left_out"] = result.left_out
    return record | result.scores
