"""The files that scoring writes: confusion.npz, detailed_results.html, timing.json and scores.json.

Without a score there is detailed_results.html, which says why, and timing.json if ingestion has left one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder, remove_files, write_file
from flair_scoring.evaluation import Evaluation
from flair_scoring.metrics import overall_accuracy
from flair_scoring.outputs.ingestion_output import TIMING, IngestionOutput
from flair_scoring.outputs.manifest import NAME as MANIFEST
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import encode_matrices
from flair_scoring.report.result import render_report

SCORES = "scores.json"
PAGE = "detailed_results.html"


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


def prepare_output(folder: Path, predictions: Path | None) -> None:
    """Make the folder and remove from it what an earlier run wrote: nothing of it may outlive a failure.

    timing.json stays where ingestion wrote it, beside the `predictions` (None: there are none). Raises
    UsageError if nothing can be written there, before time is spent on what would be written, or if the
    folder holds the output of an ingestion to which the predictions do not belong.
    """
    place = None if predictions is None else predictions.resolve()
    if (folder / MANIFEST).exists() and not (place and place.is_relative_to(folder.resolve())):
        raise UsageError(
            f"{folder}: holds a manifest.json, as another ingestion writes it; choose another --output"
        )
    make_folder(folder)
    is_ingestions = (folder / MANIFEST).exists() or place == folder.resolve()
    remove_results(folder, keep_timing=is_ingestions)


def remove_results(folder: Path, keep_timing: bool = True) -> None:
    """Remove what scoring writes; UsageError if that is refused."""
    names = (SCORES, MATRICES, PAGE, *([] if keep_timing else [TIMING]))
    remove_files(folder / name for name in names)


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
    write_file(folder / PAGE, render_report(evaluation, output.timing, pictures))
    if output.timing_file:
        write_file(folder / TIMING, output.timing_file.read_bytes())
    scores = make_scores(evaluation, output.timing)
    write_file(folder / SCORES, json.dumps(scores, indent=1, allow_nan=False) + "\n")
