"""The order of results, and which places in it are more than chance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.comparison import ALPHA, MIN_DOMAINS, leader_group_p_values, swap_test
from flair_scoring.errors import DataError, FlairError, UsageError, list_problems
from flair_scoring.ingestion_output import TIMING, read_timing
from flair_scoring.matrices import NAME as MATRICES
from flair_scoring.matrices import read_domain_matrices
from flair_scoring.metrics import mean_iou
from flair_scoring.results import SCORES

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Result:
    """One result folder: scores.json (empty if there is no score), timing.json (empty if not timed).

    `domains` is the confusion matrix of each domain, empty without confusion.npz or without domains.
    """

    name: str
    scores: dict[str, float]
    timing: dict[str, Any]
    domains: dict[str, np.ndarray]


@dataclass(frozen=True)
class Standing:
    """A scored result in the ranking.

    `p_leader` is the p-value of "it is as good as the best", for all results together; group 1, the leader's,
    are those with p_leader >= ALPHA. Each later group is the leader's group of what is left; it claims
    nothing. `p_above` is the p-value of the difference to the next better one alone. All three are None where
    there are too few domains or no matrices.
    """

    rank: int
    result: Result
    group: int | None = None
    p_leader: float | None = None
    p_above: float | None = None


def read_results(folders: Sequence[Path]) -> list[Result]:
    """The results in `folders`, best first, those without a score last; equal scores by time, then name.

    Raises UsageError for a folder that holds no result, DataError for damaged files, and for scores over
    other classes or other references than the best one's, which cannot be compared.
    """
    names = [folder.resolve().name.encode(errors="replace").decode() for folder in folders]
    unique = len(set(names)) == len(names)
    results: list[Result] = []
    problems: list[FlairError] = []
    for folder, name in zip(folders, names, strict=True):
        try:
            results.append(_read(folder, name if unique else str(folder)))
        except FlairError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DataError(list_problems("some results cannot be ranked", list(map(str, problems))))
    keys = {tuple(sorted(key for key in r.scores if key.startswith("iou_"))) for r in results if r.scores}
    if len(keys) > 1:
        raise DataError("the results score different classes; rank those of one nomenclature together")
    results.sort(key=_order)
    _require_same_ground([result for result in results if result.domains])
    return results


def rank_results(results: Sequence[Result]) -> list[Standing]:
    """The scored results of `read_results` with the tests of their differences."""
    scored = [result for result in results if result.scores]
    if not _testable(scored):
        return [Standing(rank, result) for rank, result in enumerate(scored, 1)]
    matrices = np.stack([list(result.domains.values()) for result in scored])
    groups: list[int] = []
    to_leader: list[float] = []
    while len(groups) < len(scored):
        p_values = leader_group_p_values(matrices[len(groups) :])
        to_leader = to_leader or p_values.tolist()
        groups += [max(groups, default=0) + 1] * int((p_values >= ALPHA).sum())
    above = [swap_test(*pair) for pair in pairwise(matrices)]
    return [
        Standing(place + 1, result, groups[place], to_leader[place], above[place - 1] if place else None)
        for place, result in enumerate(scored)
    ]


def pairwise_p_values(results: Sequence[Result]) -> np.ndarray | None:
    """p-values of all differences, float64 (N, N), 1 on the diagonal, uncorrected; None if not testable."""
    if not _testable(results):
        return None
    matrices = [np.stack(list(result.domains.values())) for result in results]
    found = np.ones((len(results), len(results)))
    for first, second in combinations(range(len(results)), 2):
        found[first, second] = found[second, first] = swap_test(matrices[first], matrices[second])
    return found


def pareto_front(results: Sequence[Result]) -> set[str]:
    """Names of the timed results that no other one beats in mIoU without being slower."""
    timed = [
        (r.name, r.scores["miou"], r.timing["ratio"]) for r in results if r.timing.get("ratio") is not None
    ]
    return {
        name
        for name, miou, ratio in timed
        if not any(m >= miou and t <= ratio and (m, t) != (miou, ratio) for _, m, t in timed)
    }


def count_domains(results: Sequence[Result]) -> int:
    """Number of domains that the results were scored on; 0 if that is not known."""
    return next((len(result.domains) for result in results if result.domains), 0)


def _testable(results: Sequence[Result]) -> bool:
    return count_domains(results) >= MIN_DOMAINS and all(result.domains for result in results)


def _read(folder: Path, name: str) -> Result:
    timing = read_timing(folder) if (folder / TIMING).is_file() else {}
    if not (folder / SCORES).is_file():
        if not timing:
            raise UsageError(
                f"{folder}: neither {SCORES} nor {TIMING}; expected a folder that score.py wrote"
            )
        return Result(name, {}, timing, {})
    try:
        scores = json.loads((folder / SCORES).read_bytes())
        valid = "miou" in scores and all(math.isfinite(value) for value in scores.values())
        valid = valid and ("miou_low" in scores) == ("miou_high" in scores)
    except OSError as error:
        raise UsageError(
            f"{folder / SCORES}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        valid = False
    if not valid:
        raise DataError(
            f"{folder / SCORES}: damaged; expected what score.py writes: score the predictions again"
        )
    domains = read_domain_matrices(folder / MATRICES) if (folder / MATRICES).is_file() else {}
    if domains and abs(mean_iou(np.sum(list(domains.values()), axis=0)) - scores["miou"]) > _ROUNDING:
        raise DataError(f"{folder}: {MATRICES} and {SCORES} are of different runs; score again")
    return Result(name, scores, timing, {} if "" in domains else domains)


def _require_same_ground(results: Sequence[Result]) -> None:
    """Every domain must have as many reference pixels of each class in all results."""
    if not results:
        return
    ground = _reference_pixels(results[0])
    problems = [f"{r.name}" for r in results[1:] if _reference_pixels(r) != ground]
    if problems:
        title = f"scored on other references than {results[0].name}; rank results of one test set together"
        raise DataError(list_problems(title, problems))


def _reference_pixels(result: Result) -> dict[str, list[int]]:
    return {domain: matrix.sum(axis=1).tolist() for domain, matrix in result.domains.items()}


def _order(result: Result) -> tuple[float, float, float, str]:
    ratio, seconds = result.timing.get("ratio"), result.timing.get("inference_seconds")
    return (
        -result.scores.get("miou", -math.inf),
        math.inf if ratio is None else ratio,
        math.inf if seconds is None else seconds,
        result.name,
    )
