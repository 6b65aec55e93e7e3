"""The output folder of scoring: confusion.npz, detailed_results.html, timing.json and scores.json.

Where there is no score, the folder holds detailed_results.html, which says why, and the timing.json of an
ingestion that left one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder, remove_files, write_file
from flair_scoring.evaluation import Evaluation
from flair_scoring.outputs.ingestion_output import TIMING, IngestionOutput
from flair_scoring.outputs.manifest import NAME as MANIFEST
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import encode_matrices
from flair_scoring.outputs.scores import NAME as SCORES
from flair_scoring.outputs.scores import make_scores, write_scores
from flair_scoring.ranking.comparison import Comparison
from flair_scoring.report.result import render_report

PAGE = "detailed_results.html"


def prepare_output(folder: Path, predictions: Path | None) -> None:
    """Make the folder, and remove from it what an earlier run of scoring wrote.

    So nothing old is left if this run fails. If the `predictions` lie in the folder, timing.json stays: the
    ingestion that made them wrote it. `predictions` is None where there are none.

    Raises UsageError if the folder takes no files, or if it holds the output of an ingestion which did not
    make these predictions.
    """
    source = None if predictions is None else predictions.resolve()
    if (folder / MANIFEST).exists() and not (source and source.is_relative_to(folder.resolve())):
        raise UsageError(
            f"{folder}: holds a manifest.json, as another ingestion writes it; choose another --output"
        )
    make_folder(folder)
    holds_predictions = (folder / MANIFEST).exists() or source == folder.resolve()
    remove_results(folder, keep_timing=holds_predictions)


def remove_results(folder: Path, keep_timing: bool = True) -> None:
    """Remove the files that scoring writes; UsageError if one cannot be removed."""
    names = (SCORES, MATRICES, PAGE, *([] if keep_timing else [TIMING]))
    remove_files(folder / name for name in names)


def write_results(
    folder: Path,
    evaluation: Evaluation,
    output: IngestionOutput,
    per_domain: bool,
    pictures: Sequence[str] = (),
    comparison: Comparison | None = None,
) -> None:
    """Write all files, scores.json last.

    With `per_domain` confusion.npz holds a matrix for each domain in place of one for each patch. `pictures`
    is HTML, which the report shows, like the `comparison` with another result.
    """
    write_file(folder / MATRICES, encode_matrices(evaluation, per_domain))
    write_file(folder / PAGE, render_report(evaluation, output.timing, pictures, comparison))
    if output.timing_file:
        write_file(folder / TIMING, output.timing_file.read_bytes())
    write_scores(folder, make_scores(evaluation, output.timing))
