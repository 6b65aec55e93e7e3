"""What the check of a bundle finds, and how it reads the lists of competition.yaml."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from flair_bundle.schema import check_mapping


@dataclass
class Findings:
    """What is wrong, what must be settled before an upload, and what the organizer should know."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def by_index(
    where: str, value: Any, keys: dict[str, Any], required: tuple[str, ...], found: Findings
) -> dict[Hashable, dict[str, Any]]:
    """The entries of a list by their key `index`; an entry without one of its own is a problem."""
    entries: dict[Hashable, dict[str, Any]] = {}
    for position, entry in enumerate(entries_of(value)):
        found.problems += check_mapping(f"{where}[{position}]", entry, keys, required)
        if not isinstance(entry, dict) or "index" not in entry:
            continue
        index = entry["index"]
        if not isinstance(index, Hashable):
            found.problems.append(f"{where}[{position}]: index is {index!r}; expected a number")
        elif index in entries:
            found.problems.append(f"{where}[{position}]: the index {index!r} is taken by another entry")
        else:
            entries[index] = entry
    return entries


def entries_of(value: Any) -> list[Any]:
    """The entries of a list; none if the value is no list, which check_mapping has told already."""
    return list(value) if isinstance(value, list) else []


def missing(where: str, name: str) -> str:
    """The problem of a file that the bundle does not hold."""
    return f"{where}: {name} is not in the bundle; paths start at its root"
