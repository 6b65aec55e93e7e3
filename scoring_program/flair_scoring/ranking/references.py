"""Results can be compared only if they were scored on the same references."""

from __future__ import annotations

from collections.abc import Sequence

from flair_scoring.base.errors import DataError, list_names, list_problems
from flair_scoring.ranking.results import Result

# For each domain: the reference pixels of each class, and the checksum of the references, None if not known
_Ground = dict[str, tuple[list[int], int | None]]


def require_same_references(results: Sequence[Result]) -> None:
    """Raise DataError unless all results were scored on the same references.

    Each domain must have the same reference pixels of each class in all results, and the same checksum in all
    results that have checksums. A result without checksums may fit several versions of the references.
    """
    versions: list[tuple[_Ground, list[str]]] = []
    unsure: dict[tuple[int, ...], list[str]] = {}  # names by the versions that they fit
    for result in sorted(results, key=lambda result: not result.checksums):  # those with checksums first
        ground = _reference_ground(result)
        fitting = [number for number, (known, _) in enumerate(versions) if not _list_changes(known, ground)]
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
        changed = list_names(_list_changes(first, ground))
        problems.append(f"version {number}, which differs in {changed}: {list_names(names)}")
    for numbers, names in unsure.items():
        fitted = " or ".join(str(number + 1) for number in numbers)
        problems.append(f"without checksums, by class totals version {fitted}: {list_names(names)}")
    title = f"scored on {len(versions)} versions of the references; score all again on one of them"
    raise DataError(list_problems(title, problems))


def list_changed_domains(one: Result, other: Result) -> list[str]:
    """The domains in which two results were scored on other references, by `require_same_references`."""
    return _list_changes(_reference_ground(one), _reference_ground(other))


def without_checksums(results: Sequence[Result]) -> list[str]:
    """Names of the results that have matrices of domains, but no checksums of their references."""
    return [result.name for result in results if result.domains and not result.checksums]


def _reference_ground(result: Result) -> _Ground:
    return {
        domain: (matrix.sum(axis=1).tolist(), result.checksums.get(domain))
        for domain, matrix in result.domains.items()
    }


def _has_checksums(ground: _Ground) -> bool:
    return any(checksum is not None for _, checksum in ground.values())


def _list_changes(one: _Ground, other: _Ground) -> list[str]:
    """The domains with other pixels per class, with another checksum, or which only one of the two has.

    Checksums are compared only if both are known.
    """
    changed = []
    for domain in sorted(one.keys() | other.keys()):
        (totals, checksum), (others, another) = one.get(domain, ([], None)), other.get(domain, ([], None))
        if totals != others or (checksum != another and None not in (checksum, another)):
            changed.append(domain)
    return changed
