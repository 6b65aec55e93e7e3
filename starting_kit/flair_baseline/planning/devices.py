"""Time ratios of the same submissions on several devices, as a table."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import UsageError, list_problems
from flair_scoring.base.terminal import one_line

MOST_BYTES = 1 << 26  # of a timing.json, which holds a number for each request


def compare_devices(paths: Sequence[Path]) -> str:
    """The ratio of each submission on each device, and how far the devices are apart.

    The files are timing.json of the ingestion program; a file that is given twice counts once. Submissions
    are told apart by their SHA-256, and shown by the folder of their first file. Raises UsageError that lists
    all files that are none or hold no ratio.
    """
    ratios: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    names: dict[str, str] = {}
    problems = []
    for path in {path.resolve(): path for path in paths}.values():
        try:
            found = _read_ratio(read_json(path, MOST_BYTES))
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror})")
            continue
        except (ValueError, LookupError, TypeError):
            problems.append(f"{path}: is no timing.json of the ingestion program")
            continue
        if isinstance(found, str):
            problems.append(f"{path}: {found}")
            continue
        key, device, ratio = found
        ratios[key][device].append(ratio)
        names.setdefault(key, one_line(path.resolve().parent.name))
    if problems:
        raise UsageError(list_problems("timings", problems))
    shared = Counter(names.values())
    names = {key: name if shared[name] == 1 else f"{name} {key[:8]}" for key, name in names.items()}
    devices = sorted({device for by_device in ratios.values() for device in by_device})
    rows = [["submission", *devices, "largest / smallest"]]
    for key, by_device in ratios.items():
        means = {device: sum(found) / len(found) for device, found in by_device.items()}
        cells = [f"{means[device]:.3f}" if device in means else "" for device in devices]
        spread = f"{max(means.values()) / min(means.values()):.2f}" if len(means) > 1 else ""
        rows.append([names[key], *cells, spread])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    lines = ["  ".join(row).rstrip() for row in padded]
    return "\n".join([*lines, "", "Time ratios: times as multiples of the reference's on the same device."])


def _read_ratio(timing: dict[str, Any]) -> tuple[str, str, float] | str:
    """SHA-256 of the submission, name of the device, ratio; or why a run has no ratio to compare.

    Raises ValueError, LookupError or TypeError for the content of another file.
    """
    key, device, ratio = timing["submission_sha256"], timing["device"]["name"], timing["ratio"]
    attempts = timing.get("attempts") or []
    if ratio is None:
        return "holds no ratio: the submission failed, or no reference was timed beside it"
    counted = [one for one in attempts if one["inference_seconds"] == timing["inference_seconds"]]
    if not all(attempt["completed"] for attempt in counted):
        return "its run was stopped at the limit, so its ratio is that of a part; time it to its end"
    if not isinstance(key, str) or not isinstance(device, str | None) or isinstance(ratio, bool | str):
        raise TypeError
    if not 0 < ratio < math.inf:
        raise ValueError
    return one_line(key), one_line(device or "unknown device"), float(ratio)
