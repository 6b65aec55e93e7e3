"""Time ratios of the same submissions on several devices, as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import UsageError, list_problems

MOST_BYTES = 1 << 26  # of a timing.json, which holds a number for each request


def compare_devices(paths: Sequence[Path]) -> str:
    """The ratio of each submission on each device, and how far the devices are apart.

    The files are timing.json of the ingestion program; submissions are told apart by their SHA-256. Raises
    UsageError that lists all files that are none or hold no ratio.
    """
    ratios: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    names: dict[str, str] = {}
    problems = []
    for path in paths:
        try:
            timing: dict[str, Any] = read_json(path, MOST_BYTES)
            key, device, ratio = timing["submission_sha256"], timing["device"]["name"], float(timing["ratio"])
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror})")
        except (ValueError, LookupError, TypeError):
            problems.append(f"{path}: no timing.json with submission_sha256, device and ratio")
        else:
            ratios[key][device].append(ratio)
            names.setdefault(key, path.parent.name or key[:8])
    if problems:
        raise UsageError(list_problems("timings", problems))
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
