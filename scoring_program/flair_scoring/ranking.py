"""A leaderboard from result folders, as text and as a page."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_scoring.errors import DataError, UsageError
from flair_scoring.ingestion_output import TIMING, read_timing
from flair_scoring.page import bar, paragraph, render_page, table
from flair_scoring.results import SCORES

_HEAD = ("rank", "name", "mIoU", "95 % interval", "time ratio", "inference s", "verdict")


@dataclass(frozen=True)
class Result:
    """One result folder: scores.json (empty if there is no score) and timing.json (empty if not timed)."""

    name: str
    scores: dict[str, float]
    timing: dict[str, Any]


def read_results(folders: Sequence[Path]) -> list[Result]:
    """The results in `folders`, best first, those without a score last; equal scores by time, then name.

    Raises UsageError for a folder that holds no result, DataError for damaged files or scores over different
    classes.
    """
    results = [_read(folder) for folder in folders]
    if (
        len({tuple(sorted(key for key in r.scores if key.startswith("iou_"))) for r in results if r.scores})
        > 1
    ):
        raise DataError("the results score different classes; rank those of one nomenclature together")
    return sorted(results, key=_order)


def render_text(results: Sequence[Result]) -> str:
    """An aligned table, one line per result."""
    rows = [list(_HEAD), *_rows(results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if title in ("name", "verdict") else cell.rjust(width)
            for title, cell, width in zip(_HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def render_leaderboard(results: Sequence[Result]) -> str:
    """The same table as a self-contained page."""
    rows = []
    for rank, name, miou, *cells in _rows(results):
        rows.append([rank, name, miou, bar(float(miou)) if miou else "", *cells])
    return render_page(
        "FLAIR #2: leaderboard",
        paragraph(
            "mIoU over the scored classes. The interval is for new domains. Time ratio: inference time over "
            "that of the baseline on the same machine.",
            "soft",
        ),
        table([*_HEAD[:3], "", *_HEAD[3:]], rows),
    )


def _read(folder: Path) -> Result:
    name = folder.resolve().name
    timing = read_timing(folder) if (folder / TIMING).is_file() else {}
    if not (folder / SCORES).is_file():
        if not timing:
            raise UsageError(
                f"{folder}: neither {SCORES} nor {TIMING}; expected a folder that score.py wrote"
            )
        return Result(name, {}, timing)
    try:
        scores = json.loads((folder / SCORES).read_bytes())
        valid = "miou" in scores and all(math.isfinite(value) for value in scores.values())
    except (OSError, ValueError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise DataError(f"{folder / SCORES}: damaged; score the predictions again")
    return Result(name, scores, timing)


def _order(result: Result) -> tuple[float, float, float, str]:
    ratio, seconds = result.timing.get("ratio"), result.timing.get("inference_seconds")
    return (
        -result.scores.get("miou", -math.inf),
        math.inf if ratio is None else ratio,
        math.inf if seconds is None else seconds,
        result.name,
    )


def _rows(results: Sequence[Result]) -> list[list[str]]:
    """Cells by _HEAD: the ranked results, the reference's times, the results without a score."""
    ranked = [result for result in results if result.scores]
    rows = [_row(str(rank), result) for rank, result in enumerate(ranked, 1)]
    if times := [seconds for r in results if (seconds := r.timing.get("reference_seconds")) is not None]:
        rows.append(["", "reference", "", "", "1.000", f"{statistics.median(times):.2f}", "the unit of time"])
    return rows + [_row("", result) for result in results if not result.scores]


def _row(rank: str, result: Result) -> list[str]:
    scores, timing = result.scores, result.timing
    interval = f"{scores['miou_low']:.4f} to {scores['miou_high']:.4f}" if "miou_low" in scores else ""
    verdict = str(timing.get("verdict", "not timed"))
    if not scores:
        verdict += f": {timing.get('reason') or 'no score; score.py says why'}"
    return [
        rank,
        result.name,
        f"{scores['miou']:.4f}" if scores else "",
        interval,
        _number(timing.get("ratio"), 3),
        _number(timing.get("inference_seconds"), 2),
        verdict,
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
