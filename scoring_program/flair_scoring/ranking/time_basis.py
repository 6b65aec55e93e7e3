"""Which time ratios can be compared: those of the same device, the same clock and the same reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from flair_scoring.base.terminal import one_line

Basis = tuple[str, str, str]
_NAMES = ("device", "version of the ingestion program", "reference submission")
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGITS, _LONGEST = 12, 60  # of a hash, of a device's name
_UNKNOWN = "unknown"


def time_basis(timing: dict[str, Any]) -> Basis | None:
    """What the ratio in timing.json rests on: the device, hashes of the clock's program and the reference.

    None without a ratio. What timing.json does not say is "unknown".
    """
    if timing.get("ratio") is None:
        return None
    device = timing.get("device")
    device = device.get("name") if isinstance(device, dict) else None
    device = one_line(device)[:_LONGEST] if isinstance(device, str) else _UNKNOWN
    program, reference = (timing.get(name) for name in ("harness_sha256", "reference_sha256"))
    return device, _shorten(program), _shorten(reference)


def most_common_basis(timings: Iterable[dict[str, Any]]) -> Basis | None:
    """The basis of most of the timings, of equally many the first one's; None if none has a ratio."""
    counts = Counter(basis for timing in timings if (basis := time_basis(timing)))
    return max(counts, key=counts.__getitem__, default=None)


def describe_difference(basis: Basis, common: Basis) -> str:
    """In what a basis differs from the common one."""
    return ", ".join(
        f"{name} {one} instead of {other}"
        for name, one, other in zip(_NAMES, basis, common, strict=True)
        if one != other
    )


def _shorten(value: Any) -> str:
    return value[:_DIGITS] if isinstance(value, str) and _HASH.fullmatch(value) else _UNKNOWN
