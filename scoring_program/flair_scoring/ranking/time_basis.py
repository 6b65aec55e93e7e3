"""Time ratios can be compared if device, ingestion program and reference submission were the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from flair_scoring.base.terminal import one_line

Basis = tuple[str, str, str]
_NAMES = ("device", "version of the ingestion program", "reference submission")
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGITS = 12  # of a hash that are shown
_LONGEST = 60  # characters of a device's name
_UNKNOWN = "unknown"


def time_basis(timing: dict[str, Any]) -> Basis | None:
    """The basis of the ratio in timing.json: device, hash of the ingestion program, hash of the reference.

    None if there is no ratio. A part that timing.json does not have is "unknown".
    """
    if timing.get("ratio") is None:
        return None
    device = timing.get("device")
    device = device.get("name") if isinstance(device, dict) else None
    device = one_line(device)[:_LONGEST] if isinstance(device, str) else _UNKNOWN
    program, reference = (timing.get(name) for name in ("harness_sha256", "reference_sha256"))
    return device, _shorten(program), _shorten(reference)


def most_common_basis(timings: Iterable[dict[str, Any]]) -> Basis | None:
    """The basis that most of the timings have, the first one in a tie; None if none has a ratio."""
    counts = Counter(basis for timing in timings if (basis := time_basis(timing)))
    return max(counts, key=counts.__getitem__, default=None)


def describe_difference(basis: Basis, common: Basis) -> str:
    """How a basis differs from the common one, in words."""
    return ", ".join(
        f"{name} {one} instead of {other}"
        for name, one, other in zip(_NAMES, basis, common, strict=True)
        if one != other
    )


def _shorten(value: Any) -> str:
    return value[:_DIGITS] if isinstance(value, str) and _HASH.fullmatch(value) else _UNKNOWN
