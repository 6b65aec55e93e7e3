"""The order of results, and which places in it are more than chance."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.bounded_json import read_json
from flair_scoring.comparison import ALPHA, MIN_DOMAINS, holm, swap_test
from flair_scoring.errors import DataError, FlairError, UsageError, list_problems
from flair_scoring.ingestion_output import TIMING, read_timing
from flair_scoring.matrices import NAME as MATRICES
from flair_scoring.matrices import read_domain_matrices
from flair_scoring.metrics import mean_iou
from flair_scoring.results import SCORES
from flair_scoring.terminal import one_line

_ROUNDING = 1e-9
_SCORES_BYTES = 1 << 16
# The keys of scores.json: times with the most they can be, and names of what lies between 0 and 1
_TIMES = {"time_ratio": 1e12, "inference_seconds": 1e12}
_SHARE = re.compile(r"miou|miou_low|miou_high|overall_accuracy|iou_[a-z0-9_]{1,60}", re.ASCII)
CORRECTED = 5  # places whose comparisons with the leader share one chance of a false alarm (Holm)


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

    `group` counts from 1; its members cannot be told apart from its first one. `p_leader` and `p_above` are
    p-values of the difference to the leader (Holm's within the first five places, plain beyond) and to the
    next better one (plain). All three are None where there are too few domains or no matrices.
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
    names = [one_line(folder.resolve().name) for folder in folders]
    unique = len(set(names)) == len(names)
    results: list[Result] = []
    problems: list[FlairError] = []
    for folder, name in zip(folders, names, strict=True):
        try:
            results.append(_read(folder, name if unique else one_line(str(folder))))
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
    matrices = [np.stack(list(result.domains.values())) for result in scored]
    to_leader = [swap_test(matrices[0], one) for one in matrices[1:]]
    to_leader[: CORRECTED - 1] = holm(to_leader[: CORRECTED - 1])
    standings = [Standing(1, scored[0], group=1)]
    group, head = 1, 0
    for place in range(1, len(scored)):
        p_leader = to_leader[place - 1]
        if (p_leader if head == 0 else swap_test(matrices[head], matrices[place])) < ALPHA:
            group, head = group + 1, place
        above = swap_test(matrices[place - 1], matrices[place])
        standings.append(Standing(place + 1, scored[place], group, p_leader, above))
    return standings


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
    scores = _read_scores(folder / SCORES)
    domains = read_domain_matrices(folder / MATRICES) if (folder / MATRICES).is_file() else {}
    if domains and not abs(mean_iou(np.sum(list(domains.values()), axis=0)) - scores["miou"]) <= _ROUNDING:
        raise DataError(f"{folder}: {MATRICES} and {SCORES} are of different runs; score again")
    return Result(name, scores, timing, {} if "" in domains else domains)


def _read_scores(path: Path) -> dict[str, float]:
    """scores.json as score.py writes it; UsageError if it cannot be read, DataError for any other content."""
    try:
        scores = read_json(path, _SCORES_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); expected what score.py writes"
        ) from None
    except ValueError:
        scores = None
    whole = (
        isinstance(scores, dict) and "miou" in scores and ("miou_low" in scores) == ("miou_high" in scores)
    )
    if not whole:
        raise DataError(f"{path}: damaged; expected what score.py writes: score the predictions again")
    if unknown := [key for key in scores if key not in _TIMES and not _SHARE.fullmatch(key)]:
        known = f"{', '.join(map(repr, unknown[:5]))}"
        raise DataError(f"{path}: has {known}, which score.py does not write; score the predictions again")
    wrong = [key for key, value in scores.items() if not _is_within(value, _TIMES.get(key, 1.0))]
    if wrong:
        raise DataError(
            f"{path}: {', '.join(wrong[:5])} out of range: expected shares from 0 to 1 and times; score the "
            "predictions again"
        )
    return scores


def _is_within(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


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
