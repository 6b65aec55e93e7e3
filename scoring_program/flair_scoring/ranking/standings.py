"""The order of results, and which differences between them are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS, leader_group_p_values, permutation_test
from flair_scoring.ranking.references import require_same_references
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.time_basis import Basis, most_common_basis, time_basis


@dataclass(frozen=True)
class Standing:
    """A scored result in the ranking.

    Results with exactly the same mIoU have the same `rank`, and the next rank counts them all: 1, 2, 2, 4.
    `p_leader` is its p-value from `leader_group_p_values`, for all results together. Group 1 is the leader's
    group, with p_leader >= ALPHA. Each later group is found in the same way among the results that are left;
    it describes the list and is no test. `p_above` is the p-value of the difference from the next better
    result alone. All three are None if there is one result only, if a result has no matrices of domains, or
    if there are too few domains.
    """

    rank: int
    result: Result
    group: int | None = None
    p_leader: float | None = None
    p_above: float | None = None


@dataclass(frozen=True)
class Board:
    """A leaderboard: all results in the order of `sort_results`, and the standings of the ranked ones.

    `basis` is the basis on which most of the ranked results were timed; None if none of them was timed.
    """

    results: Sequence[Result]
    standings: Sequence[Standing]
    basis: Basis | None


def make_board(results: Sequence[Result]) -> Board:
    """Sort results and test their differences.

    Args:
        results: What `read_results` returns, in any order. Results that are left out or have no score are
            listed and not ranked.

    Returns:
        The board, for flair_scoring.report and for `standings_table`.

    Raises:
        DataError: The results were scored on several versions of the references.

    Example:
        >>> from flair_scoring.ranking.results import Result
        >>> from flair_scoring.ranking.standings import make_board
        >>> results = [Result(name, {"miou": miou}, {}, {}) for name, miou in (("a", 0.58), ("b", 0.61))]
        >>> [result.name for result in make_board(results).results]
        ['b', 'a']
    """
    ordered = sort_results(results)
    return Board(ordered, rank_results(ordered), find_basis(ordered))


def sort_results(results: Sequence[Result]) -> list[Result]:
    """The results, best mIoU first, those without a score last.

    Equal scores are sorted by time, then by name. Only times on the basis of most ranked results count
    (time_basis.py).
    """
    common = find_basis(results)
    return sorted(results, key=lambda result: _order(result, common))


def find_basis(results: Sequence[Result]) -> Basis | None:
    """The basis on which most of the results that can be ranked were timed; None if none was timed."""
    return most_common_basis(result.timing for result in results if result.scores and not result.left_out)


def rank_results(results: Sequence[Result]) -> list[Standing]:
    """Rank results by mIoU and test their differences with the permutation tests.

    Args:
        results: What `read_results` returns, in any order.

    Returns:
        One standing for each result that has a score and is not left out, in the order of `sort_results`.

    Raises:
        DataError: The results were scored on several versions of the references.

    Example:
        >>> from flair_scoring.ranking.results import Result
        >>> from flair_scoring.ranking.standings import rank_results
        >>> results = [Result(name, {"miou": miou}, {}, {}) for name, miou in (("a", 0.58), ("b", 0.61))]
        >>> [(standing.rank, standing.result.name) for standing in rank_results(results)]
        [(1, 'b'), (2, 'a')]
    """
    scored = [result for result in sort_results(results) if result.scores and not result.left_out]
    require_same_references([result for result in scored if result.domains])
    ranks = _share_ranks([result.scores["miou"] for result in scored])
    if not _testable(scored):
        return [Standing(rank, result) for rank, result in zip(ranks, scored, strict=True)]
    matrices = np.stack([list(result.domains.values()) for result in scored])
    groups: list[int] = []
    to_leader: list[float] = []
    while len(groups) < len(scored):
        p_values = leader_group_p_values(matrices[len(groups) :])
        to_leader = to_leader or p_values.tolist()
        groups += [max(groups, default=0) + 1] * int((p_values >= ALPHA).sum())
    above = [None, *(permutation_test(*pair) for pair in pairwise(matrices))]
    return [Standing(*values) for values in zip(ranks, scored, groups, to_leader, above, strict=True)]


def pairwise_p_values(results: Sequence[Result]) -> np.ndarray | None:
    """The p-value of each pair's difference, float64 (N, N), 1 on the diagonal; None if not testable.

    The p-values are not corrected for the number of pairs.
    """
    if not _testable(results):
        return None
    matrices = [np.stack(list(result.domains.values())) for result in results]
    found = np.ones((len(results), len(results)))
    for first, second in combinations(range(len(results)), 2):
        found[first, second] = found[second, first] = permutation_test(matrices[first], matrices[second])
    return found


def pareto_front(results: Sequence[Result]) -> set[str]:
    """Names of the results for which no other one has at least their mIoU in at most their time.

    Only results on the most common basis of time are compared; the others are not on the front.
    """
    common = most_common_basis(result.timing for result in results)
    timed = [
        (r.name, r.scores["miou"], r.timing["ratio"])
        for r in results
        if common and time_basis(r.timing) == common
    ]
    return {
        name
        for name, miou, ratio in timed
        if not any(m >= miou and t <= ratio and (m, t) != (miou, ratio) for _, m, t in timed)
    }


def is_comparable(result: Result, board: Board) -> bool | None:
    """Whether the result was timed on the board's basis; None if the result or the board has no basis."""
    basis = time_basis(result.timing)
    return basis == board.basis if basis and board.basis else None


def count_domains(results: Sequence[Result]) -> int:
    """Number of domains on which the results were scored; 0 if it is not known."""
    return next((len(result.domains) for result in results if result.domains), 0)


def without_domains(results: Sequence[Result]) -> list[str]:
    """Names of the results without matrices of domains, which no test can compare."""
    return [result.name for result in results if not result.domains]


def _share_ranks(scores: Sequence[float]) -> list[int]:
    """The rank of each score, the highest first in `scores`: one more than the number of higher scores."""
    return [scores.index(score) + 1 for score in scores]


def _testable(results: Sequence[Result]) -> bool:
    return len(results) > 1 and count_domains(results) >= MIN_DOMAINS and not without_domains(results)


def _order(result: Result, common: Basis | None) -> tuple[float, float, float, str]:
    comparable = common is None or time_basis(result.timing) == common
    ratio = result.timing.get("ratio") if comparable else None
    seconds = result.timing.get("inference_seconds") if comparable else None
    return (
        -result.scores.get("miou", -math.inf),
        math.inf if ratio is None else ratio,
        math.inf if seconds is None else seconds,
        result.name,
    )
