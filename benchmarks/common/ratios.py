"""Ratios of paired times, and how exactly their mean is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def divide(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratio of each pair."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean of independent values."""
    return statistics.stdev(values) / math.sqrt(len(values))
