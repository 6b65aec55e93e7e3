"""The limits of limits.yaml, and how a measured time compares with them."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from flair_ingestion import PROGRAM
from flair_scoring.base.errors import UsageError, list_problems
from flair_scoring.base.files import read_file
from flair_scoring.base.settings import parse_settings

DEFAULT_LIMITS = PROGRAM / "limits.yaml"
# Fractions of the limit: how much a careful measurement on one machine scatters, and how much is too much
MIN_GREY_ZONE, MAX_GREY_ZONE = 0.03, 0.10
MAX_ATTEMPTS = 3
MAX_BYTES = 1 << 20  # of a file of limits
_OPTIONAL = ("ratio", "seconds")


@dataclass(frozen=True)
class Limits:
    """The keys of limits.yaml, which says their units. A `ratio` or `seconds` of None: no such limit."""

    ratio: float | None
    seconds: float | None
    calibration_patches: int
    load_seconds: float
    warmup_seconds: float
    request_seconds: float
    wall_seconds: float
    submission_mib: float
    request_mib: float
    memory_gib: float
    scratch_gib: float

    @property
    def max_attempts(self) -> int:
        """How often a submission is run at most: once if there is no time limit that it could be close to."""
        return MAX_ATTEMPTS if self.ratio or self.seconds else 1

    def with_options(self, ratio: float | None, seconds: float | None) -> Limits:
        """These limits, with the values of --limit-ratio (0: no such limit) and --limit-seconds if given.

        Raises UsageError if a value is not above 0.
        """
        chosen = self
        if ratio is not None:
            chosen = replace(chosen, ratio=_positive("--limit-ratio", ratio) if ratio else None)
        if seconds is not None:
            chosen = replace(chosen, seconds=_positive("--limit-seconds", seconds))
        return chosen


@dataclass(frozen=True)
class TimeLimit:
    """A limit of the inference time: `seconds`, with a grey zone of +- `grey` (a fraction of it) around.

    `relative` tells whether the limit is a multiple of the reference's time.
    """

    seconds: float
    grey: float
    sentence: str
    relative: bool = False

    @property
    def stop(self) -> float:
        """The upper end of the grey zone in seconds; a longer time is no error of measurement."""
        return self.seconds * (1 + self.grey)


def read_limits(path: Path | None = None) -> Limits:
    """The limits of limits.yaml; the file at `path`, if given, replaces the keys that it holds.

    Raises UsageError, which lists all problems.
    """
    values = _read_mapping(DEFAULT_LIMITS)
    if path:
        values |= _read_mapping(path)
    names = [field.name for field in fields(Limits)]
    problems = [_unknown(str(key), names) for key in values if key not in names]
    for name in names:
        try:
            if not (values[name] is None and name in _OPTIONAL):
                values[name] = _positive(name, values[name])
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError(list_problems(f"{path or DEFAULT_LIMITS}: not usable as limits", problems))
    return Limits(**{name: values[name] for name in names})


def time_limits(limits: Limits, reference_seconds: float | None, standard_error: float) -> list[TimeLimit]:
    """The limits of the inference time, in seconds.

    `standard_error` is the standard error of the reference's time, as a fraction of that time. The grey zone
    of the relative limit is two standard errors wide, but at least MIN_GREY_ZONE and at most MAX_GREY_ZONE.
    """
    found = []
    if limits.ratio is not None and reference_seconds is not None:
        grey = min(max(MIN_GREY_ZONE, 2 * standard_error), MAX_GREY_ZONE)
        sentence = f"{limits.ratio:g} times the reference's {reference_seconds:.4g} s"
        found.append(TimeLimit(limits.ratio * reference_seconds, grey, sentence, relative=True))
    if limits.seconds is not None:
        found.append(TimeLimit(limits.seconds, MIN_GREY_ZONE, f"{limits.seconds:g} s"))
    return found


def scatter_problem(standard_error: float) -> str | None:
    """A sentence if the reference's time scatters more than the widest grey zone allows, else None."""
    if 2 * standard_error <= MAX_GREY_ZONE:
        return None
    return (
        f"the reference's time is uncertain by {2 * standard_error:.0%} (two standard errors over its "
        f"blocks), and a verdict allows {MAX_GREY_ZONE:.0%}; free the machine of other work, or raise "
        "calibration_patches if the data has more patches"
    )


def shifted(limits: Sequence[TimeLimit], ratio: float | None) -> list[TimeLimit]:
    """The limits if the reference took `ratio` times as long; only relative limits change."""
    return [
        replace(limit, seconds=limit.seconds * ratio) if limit.relative and ratio is not None else limit
        for limit in limits
    ]


def stop_seconds(limits: Sequence[TimeLimit]) -> float:
    """The inference time in seconds at which a run is stopped; infinite without a limit."""
    return min((limit.stop for limit in limits), default=math.inf)


def exceeded(seconds: float, limits: Sequence[TimeLimit]) -> TimeLimit | None:
    """The smallest limit that `seconds` of inference exceed, or None."""
    over = [limit for limit in limits if seconds > limit.seconds]
    return min(over, key=lambda limit: limit.seconds, default=None)


def needs_another_attempt(attempts: Sequence[float], limits: Sequence[TimeLimit]) -> bool:
    """Whether the verdict is still open after attempts with these inference times (s).

    It is open if the first time is in a grey zone, until two attempts are on the same side of the limits: the
    median of three attempts counts.
    """
    if stop_seconds(limits) < attempts[0] or not any(
        abs(attempts[0] - limit.seconds) <= limit.grey * limit.seconds for limit in limits
    ):
        return False
    over = sum(exceeded(seconds, limits) is not None for seconds in attempts)
    return len(attempts) < MAX_ATTEMPTS and max(over, len(attempts) - over) < 2


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = parse_settings(read_file(path, MAX_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected keys of limits.yaml") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}; expected lines of the form 'key: value'") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected lines of the form 'key: value'")
    return content


def _unknown(key: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1)
    known = f"the nearest is {near[0]!r}" if near else f"the keys are {', '.join(names)}"
    return f"unknown key {key!r:.60}; {known}"


def _positive(name: str, value: object) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise UsageError(f"{name} is {value!r:.60}; expected a number above 0")
    if name == "calibration_patches" and not isinstance(value, int):
        raise UsageError(f"{name} is {value!r:.60}; expected a whole number")
    return value
