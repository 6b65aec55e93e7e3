"""One ingestion: the reference's time, the submission's time and predictions, the verdict, OUTPUT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flair_ingestion.child import clock
from flair_ingestion.dataset import Patch
from flair_ingestion.limits import exceeded, needs_another_attempt, time_limits
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.predictions import Spool
from flair_ingestion.reference import time_reference
from flair_ingestion.submission import Submission, open_submission
from flair_ingestion.timing import Record, describe
from flair_scoring.errors import PredictionError, SubmissionError, TimeLimitError

# Writes OUTPUT: timing.json's content, and the predictions unless the run has failed
Write = Callable[[dict[str, Any], Spool | None], None]


def run_ingestion(
    source: Path,
    patches: Sequence[Patch],
    conditions: Conditions,
    reference: Submission | None,
    cache: Path | None,
    write: Write,
) -> dict[str, Any]:
    """Time a submission against its limits and write its predictions; the content of timing.json.

    A submission that fails or is too slow leaves timing.json only, and its error is raised again.
    """
    record = Record(conditions.device, conditions.limits, len(patches))
    with Spool() as spool:
        try:
            record.submission = open_submission(source, conditions.limits.submission_mib)
            if reference:
                record.reference = time_reference(reference, patches, conditions, cache)
            standard_error = record.reference.standard_error if record.reference else 0.0
            record.time_limits = time_limits(conditions.limits, record.reference_seconds, standard_error)
            for limit in record.time_limits:
                print(f"limit: {limit.sentence}, grey zone {limit.grey:.1%}", file=sys.stderr)
            _attempt_until_decided(record, record.submission, patches, conditions, spool)
        except (SubmissionError, PredictionError, TimeLimitError) as error:
            write(describe(record, error), None)
            raise
        timing = describe(record, None)
        write(timing, spool)
    return timing


def _attempt_until_decided(
    record: Record, submission: Submission, patches: Sequence[Patch], conditions: Conditions, spool: Spool
) -> None:
    """Run the submission, again while its time is in a grey zone; raises TimeLimitError if over a limit.

    Each attempt is a fresh process with a fresh copy of the submission; the first one's predictions are kept.
    """
    limits = record.time_limits
    while not record.attempts or needs_another_attempt([a.seconds for a in record.attempts], limits):
        first, attempt = not record.attempts, Attempt()
        record.attempts.append(attempt)
        deliver = spool.add if first else None
        try:
            measure(submission, patches, conditions, attempt, limits, deliver)
        except TimeLimitError:
            if first or clock() > conditions.wall:
                raise
    seconds = record.counted.seconds
    if limit := exceeded(seconds, limits):
        raise TimeLimitError(f"{seconds:.4g} s of inference; the limit is {limit.sentence}")
