"""scores.json: the columns of the leaderboard, as scoring computes them and ranking reads them again."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import write_file
from flair_scoring.evaluation import Evaluation
from flair_scoring.metrics import overall_accuracy
from flair_scoring.nomenclature import FLAIR_12, Nomenclature

NAME = "scores.json"
TIME_RATIO = "time_ratio"
_SUMMARY = ("miou", TIME_RATIO, "inference_seconds", "overall_accuracy", "miou_low", "miou_high")
_MAX_BYTES = 1 << 16
# What each key may hold: times have an upper bound of their own, all other values lie between 0 and 1
_TIMES = {TIME_RATIO: 1e12, "inference_seconds": 1e12}
_SHARE = re.compile(r"miou|miou_low|miou_high|overall_accuracy|iou_[a-z0-9_]{1,60}", re.ASCII)


def score_keys(nomenclature: Nomenclature = FLAIR_12) -> tuple[str, ...]:
    """All keys that scores.json can have, in their order; `make_scores` says which ones may be absent."""
    return (*_SUMMARY, *nomenclature.keys)


def make_scores(evaluation: Evaluation, timing: dict[str, Any]) -> dict[str, float]:
    """The values of the `score_keys`, all finite.

    Both times are absent if they were not measured, and the interval is absent below 3 domains. A class that
    does not occur has the value 0.0, but the mean leaves it out.
    """
    values = [
        evaluation.miou,
        timing.get("ratio"),
        timing.get("inference_seconds"),
        overall_accuracy(evaluation.matrix),
        *(evaluation.interval or (None, None)),
        *np.nan_to_num(evaluation.iou).tolist(),
    ]
    pairs = zip(score_keys(evaluation.nomenclature), values, strict=True)
    return {key: float(value) for key, value in pairs if value is not None and math.isfinite(value)}


def write_scores(folder: Path, scores: dict[str, float]) -> None:
    """Write scores.json into `folder`; UsageError if that fails."""
    write_file(folder / NAME, json.dumps(scores, indent=1, allow_nan=False) + "\n")


def read_scores(path: Path) -> dict[str, float]:
    """The content of a scores.json; UsageError if it cannot be read, DataError for any other content."""
    try:
        scores = read_json(path, _MAX_BYTES)
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
        named = ", ".join(map(repr, unknown[:5]))
        raise DataError(f"{path}: has {named}, which score.py does not write; score the predictions again")
    wrong = [key for key, value in scores.items() if not _is_within(value, _TIMES.get(key, 1.0))]
    if wrong:
        raise DataError(
            f"{path}: {', '.join(wrong[:5])} out of range: expected shares from 0 to 1 and times; score the "
            "predictions again"
        )
    return scores


def _is_within(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
