"""The files that scoring writes: confusion.npz, detailed_results.html, timing.json and scores.json."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.errors import UsageError
from flair_scoring.evaluation import Evaluation
from flair_scoring.files import write_file
from flair_scoring.ingestion_output import IngestionOutput
from flair_scoring.metrics import overall_accuracy
from flair_scoring.provenance import stamp
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
    """Make the folder and remove an old scores.json from it: it must not outlive a failure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCORES).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written to ({error.strerror}); choose another --output"
        ) from None


def write_results(folder: Path, evaluation: Evaluation, output: IngestionOutput, per_domain: bool) -> None:
    """Write all files, scores.json last; `per_domain` keeps matrices of single patches back."""
    write_file(folder / "confusion.npz", encode_matrices(evaluation, per_domain))
    write_file(folder / "detailed_results.html", render_report(evaluation, output.timing))
    if output.timing_file:
        write_file(folder / "timing.json", output.timing_file.read_bytes())
    scores = make_scores(evaluation, output.timing)
    write_file(folder / SCORES, json.dumps(scores, indent=1, allow_nan=False) + "\n")


def encode_matrices(evaluation: Evaluation, per_domain: bool) -> bytes:
    """npz with `ids`, `domains`, `areas`, `matrices` uint32 (N, K+1, K+1), one per patch, and the stamp.

    With `per_domain` only `domains` and `matrices` int64 (D, K+1, K+1): the rows of a patch's matrix would
    tell participants how many pixels of each class its hidden mask has.
    """
    if per_domain:
        domains = evaluation.domain_matrices
        arrays: dict[str, Any] = {
            "domains": np.array(list(domains)),
            "matrices": np.stack(list(domains.values())),
        }
    else:
        names = {"ids": evaluation.ids, "domains": evaluation.domains, "areas": evaluation.areas}
        arrays = {name: np.array(values) for name, values in names.items()} | {
            "matrices": evaluation.matrices
        }
    buffer = io.BytesIO()
    arrays |= {name: np.array(value) for name, value in stamp(evaluation.nomenclature.name).items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
