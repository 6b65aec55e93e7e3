"""The files that scoring writes: confusion.npz, detailed_results.html, timing.json and scores.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.errors import UsageError
from flair_scoring.evaluation import Evaluation
from flair_scoring.files import make_folder, write_file
from flair_scoring.ingestion_output import IngestionOutput
from flair_scoring.matrices import NAME as MATRICES
from flair_scoring.matrices import encode_matrices
from flair_scoring.metrics import overall_accuracy
from flair_scoring.report import render_report

SCORES = "scores.json"


def make_scores(evaluation: Evaluation, timing: dict[str, Any]) -> dict[str, float]:
    """The leaderboard's columns, `miou` first, all finite.

    Times without a measurement and the interval below 3 domains are left out; a class that does not occur
    has 0.0 in its column and no part in the mean.
    """
    scores: dict[str, Any] = {"miou": evaluation.miou}
    scores |= {"time_ratio": timing.get("ratio"), "inference_seconds": timing.get("inference_seconds")}
    scores["overall_accuracy"] = overall_accuracy(evaluation.matrix)
    scores["miou_low"], scores["miou_high"] = evaluation.interval or (None, None)
    scores |= zip(evaluation.nomenclature.keys, np.nan_to_num(evaluation.iou).tolist(), strict=True)
    return {key: float(value) for key, value in scores.items() if value is not None and math.isfinite(value)}


def prepare_output(folder: Path) -> None:
    """Make the folder and remove an old scores.json from it: it must not outlive a failure.

    Raises UsageError if nothing can be written there, before time is spent on what would be written.
    """
    make_folder(folder)
    try:
        (folder / SCORES).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written to ({error.strerror}); choose another --output"
        ) from None


def write_results(
    folder: Path,
    evaluation: Evaluation,
    output: IngestionOutput,
    per_domain: bool,
    pictures: Sequence[str] = (),
) -> None:
    """Write all files, scores.json last; `per_domain` keeps matrices of single patches back.

    `pictures` are shown in the report.
    """
    write_file(folder / MATRICES, encode_matrices(evaluation, per_domain))
    write_file(folder / "detailed_results.html", render_report(evaluation, output.timing, pictures))
    if output.timing_file:
        write_file(folder / "timing.json", output.timing_file.read_bytes())
    scores = make_scores(evaluation, output.timing)
    write_file(folder / SCORES, json.dumps(scores, indent=1, allow_nan=False) + "\n")
