"""The order of results, and which places in it are more than chance."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import DataError, FlairError, UsageError, list_names, list_problems
from flair_scoring.base.terminal import one_line
from flair_scoring.metrics import mean_iou
from flair_scoring.outputs.ingestion_output import TIMING, read_timing
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import read_domain_matrices
from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS, leader_group_p_values, swap_test
from flair_scoring.ranking.time_basis import Basis, most_common_basis, time_basis
from flair_scoring.writing import SCORES

_ROUNDING = 1e-9
_READERS = 2  # more would hold more matrices at a time
_SCORES_BYTES = 1 << 16
# The keys of scores.json: times with the most they can be, and names of what lies between 0 and 1
_TIMES = {"time_ratio": 1e12, "inference_seconds": 1e12}
_SHARE = re.compile(r"miou|miou_low|miou_high|overall_accuracy|iou_[a-z0-9_]{1,60}", re.ASCII)
# Of each domain the reference pixels of each class, and the checksum of the references, None if not known
_Ground = dict[str, tuple[list[int], int | None]]


@dataclass(frozen=True)
class Result:
    """One result folder: scores.json (empty if there is no score), timing.json (empty if not timed).

    `domains` is the confusion matrix of each domain, empty without confusion.npz or without domains.
    `left_out` is the reason why it is listed and not ranked. `checksums` are those of the references of each
    domain, empty without domains and where an older version of the kit has scored.
    """

    name: str
    scores: dict[str, float]
    timing: dict[str, Any]
    domains: dict[str, np.ndarray]
    left_out: str | None = None
    checksums: dict[str, int] = field(default_factory=dict)


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
    """The results in `folders`, in the order of `sort_results`.

    Raises UsageError for a folder that holds no result or is there twice, DataError for damaged files, and
    for scores over other classes, which cannot be compared.
    """
    if twice := [str(folder) for folder, count in Counter(map(Path.resolve, folders)).items() if count > 1]:
        raise UsageError(f"given twice: {list_names(twice)}; name each result once")
    names = [one_line(folder.resolve().name) for folder in folders]
    unique = len(set(names)) == len(names)
    names = names if unique else [one_line(str(folder)) for folder in folders]
    with ThreadPoolExecutor(_READERS) as pool:  # unpacking leaves the interpreter to the others
        read = list(pool.map(_read_or_fail, folders, names))
    results = [one for one in read if isinstance(one, Result)]
    problems = [one for one in read if isinstance(one, FlairError)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DataError(list_problems("some results cannot be ranked", list(map(str, problems))))
    _require_same_classes([result for result in results if result.scores])
    return sort_results(results)


def sort_results(results: Sequence[Result]) -> list[Result]:
    """Best first, those without a score last; equal scores by time, then by name.

    Times count that were taken on the basis that most ranked results have (time_basis.py).
    """
    common = find_basis(results)
    return sorted(results, key=lambda result: _order(result, common))


def find_basis(results: Sequence[Result]) -> Basis | None:
    """On which most of the results that can be ranked were timed; None if none of them was."""
    return most_common_basis(result.timing for result in results if result.scores and not result.left_out)


def rank_results(results: Sequence[Result]) -> list[Standing]:
    """The scored results of `read_results` that are not left out, with the tests of their differences.

    Raises DataError if they were scored on several versions of the references.
    """
    scored = [result for result in results if result.scores and not result.left_out]
    _require_same_ground([result for result in scored if result.domains])
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
    """Names of the timed results that no other one beats in mIoU without being slower.

    Only those whose times can be compared, on the basis that most of them have.
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


def count_domains(results: Sequence[Result]) -> int:
    """Number of domains that the results were scored on; 0 if that is not known."""
    return next((len(result.domains) for result in results if result.domains), 0)


def _testable(results: Sequence[Result]) -> bool:
    return count_domains(results) >= MIN_DOMAINS and not without_domains(results)


def without_domains(results: Sequence[Result]) -> list[str]:
    """Names of the results that no test can compare, since they have no matrices of domains."""
    return [result.name for result in results if not result.domains]


def without_checksums(results: Sequence[Result]) -> list[str]:
    """Names of the results with matrices of domains, but without checksums of their references."""
    return [result.name for result in results if result.domains and not result.checksums]


def _read_or_fail(folder: Path, name: str) -> Result | FlairError:
    try:
        return _read(folder, name)
    except FlairError as error:
        return error


def _read(folder: Path, name: str) -> Result:
    timing = read_timing(folder) if (folder / TIMING).is_file() else {}
    if not (folder / SCORES).is_file():
        if not timing:
            raise UsageError(
                f"{folder}: neither {SCORES} nor {TIMING}; expected a folder that score.py wrote"
            )
        return Result(name, {}, timing, {})
    scores = _read_scores(folder / SCORES)
    file = folder / MATRICES
    domains, checksums = read_domain_matrices(file) if file.is_file() else ({}, {})
    if domains and not abs(mean_iou(np.sum(list(domains.values()), axis=0)) - scores["miou"]) <= _ROUNDING:
        raise DataError(f"{folder}: {MATRICES} and {SCORES} are of different runs; score again")
    if "" in domains:
        return Result(name, scores, timing, {})
    return Result(name, scores, timing, domains, checksums=checksums)


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


def _require_same_classes(results: Sequence[Result]) -> None:
    """All must have the same keys of classes in scores.json."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        keys = tuple(sorted(key for key in result.scores if key.startswith("iou_")))
        kinds.setdefault(keys, []).append(result.name)
    if len(kinds) > 1:
        named = [f"{len(keys)} classes: {list_names(names)}" for keys, names in kinds.items()]
        title = "the results score different classes; rank those of one nomenclature together"
        raise DataError(list_problems(title, named))


def _require_same_ground(results: Sequence[Result]) -> None:
    """All must have been scored on the same references.

    Every domain must have as many reference pixels of each class in all results, and the same checksum in
    those that have one. A result without checksums may fit several versions.
    """
    versions: list[tuple[_Ground, list[str]]] = []
    unsure: dict[tuple[int, ...], list[str]] = {}  # names by the versions that they fit
    for result in sorted(results, key=lambda result: not result.checksums):  # those with checksums first
        ground = _reference_ground(result)
        fitting = [number for number, (known, _) in enumerate(versions) if not _differing(known, ground)]
        if not fitting:
            versions.append((ground, [result.name]))
        elif not result.checksums and _has_checksums(versions[fitting[0]][0]):
            unsure.setdefault(tuple(fitting), []).append(result.name)
        else:
            versions[fitting[0]][1].append(result.name)
    if len(versions) < 2:
        return
    (first, names), *others = versions
    problems = [f"version 1: {list_names(names)}"]
    for number, (ground, names) in enumerate(others, 2):
        changed = list_names(_differing(first, ground))
        problems.append(f"version {number}, which differs in {changed}: {list_names(names)}")
    for numbers, names in unsure.items():
        of = " or ".join(str(number + 1) for number in numbers)
        problems.append(f"without checksums, by class totals version {of}: {list_names(names)}")
    title = f"scored on {len(versions)} versions of the references; score all again on one of them"
    raise DataError(list_problems(title, problems))


def _reference_ground(result: Result) -> _Ground:
    return {
        domain: (matrix.sum(axis=1).tolist(), result.checksums.get(domain))
        for domain, matrix in result.domains.items()
    }


def _has_checksums(ground: _Ground) -> bool:
    return any(checksum is not None for _, checksum in ground.values())


def _differing(one: _Ground, other: _Ground) -> list[str]:
    """The domains whose class totals differ or, where both are known, checksums; those that only one has."""
    changed = []
    for domain in sorted(one.keys() | other.keys()):
        (totals, checksum), (others, another) = one.get(domain, ([], None)), other.get(domain, ([], None))
        if totals != others or (checksum != another and None not in (checksum, another)):
            changed.append(domain)
    return changed


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
