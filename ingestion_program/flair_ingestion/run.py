"""One run: the reference is timed, the submission is timed and predicts, and a verdict is reached."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_ingestion.clock import clock
from flair_ingestion.dataset import Patch
from flair_ingestion.devices.device import require_idle
from flair_ingestion.devices.floor import floor_seconds
from flair_ingestion.devices.gpu_states import describe_difference
from flair_ingestion.gpu_memory import overwrite_gpu_memory
from flair_ingestion.limits import (
    MAX_GREY_ZONE,
    exceeded,
    needs_another_attempt,
    scatter_problem,
    shifted,
    time_limits,
)
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.order import draw_order
from flair_ingestion.predictions import Predictions, Spool
from flair_ingestion.reference import time_drift, time_reference
from flair_ingestion.submission import Submission, open_submission
from flair_ingestion.timing import Record, describe
from flair_scoring.base.errors import (
    FlairError,
    PredictionError,
    SubmissionError,
    TimeLimitError,
    UsageError,
)

# By how much attempts of one submission may differ. Rounding, and a busy machine, cause smaller differences
MAX_TIME_RATIO, MAX_CHANGED_PIXELS = 1.25, 0.05

_STEADY = "free the machine of other work, and run again"


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do.

    Attributes:
        source: The submission, a zip or a folder.
        reference: The reference submission; None without a relative limit.
        order_seed: Seed of the order of the patches.
        cache: Folder that keeps the reference's time; None to time it anew.
        strict: Whether a reference whose time scatters too much ends the run; otherwise it is a warning.
    """

    source: Path
    reference: Submission | None
    order_seed: int
    cache: Path | None = None
    strict: bool = False


@dataclass(frozen=True)
class IngestionResult:
    """What is to be written into OUTPUT: the content of timing.json, and the predictions.

    If the submission failed or was too slow, there are no predictions, and `error` says why.
    """

    timing: dict[str, Any]
    predictions: Predictions | None
    error: FlairError | None = None


def run_ingestion(
    plan: Plan, patches: Sequence[Patch], conditions: Conditions, spool: Spool
) -> IngestionResult:
    """Let a submission predict the patches, and hold its time against the limits.

    Nothing is written yet. The predictions of the result are read from `spool`, which keeps the labels of all
    attempts and must still be open then.

    Raises:
        UsageError: The reference fails, or the machine is too unsteady for a verdict.
    """
    record = Record(conditions.device, conditions.limits, len(patches), order_seed=plan.order_seed)
    try:
        try:
            record.submission = open_submission(plan.source, conditions.limits.submission_mib)
            _set_limits(record, plan, patches, conditions)
            _attempt_until_decided(record, plan, patches, conditions, spool)
        except TimeLimitError:
            _check_machine(record, plan, patches, conditions)
            raise
        _check_machine(record, plan, patches, conditions)
        _require_same_work(record, spool)
    except (SubmissionError, PredictionError, TimeLimitError) as error:
        return IngestionResult(describe(record, error), None, error)
    return IngestionResult(describe(record, None), spool.files(record.counted_index))


def _set_limits(record: Record, plan: Plan, patches: Sequence[Patch], conditions: Conditions) -> None:
    """Time the reference, if there is one, and derive the limits from its time.

    Raises UsageError if its time scatters too much and the plan is strict.
    """
    if plan.reference:
        record.reference = time_reference(plan.reference, patches, conditions, plan.cache)
    standard_error = record.reference.standard_error if record.reference else 0.0
    if problem := scatter_problem(standard_error):
        if plan.strict:
            raise UsageError(problem)
        print(f"warning: {problem}", file=sys.stderr)
    record.time_limits = time_limits(conditions.limits, record.reference_seconds, standard_error)
    for limit in record.time_limits:
        print(f"limit: {limit.sentence}, grey zone {limit.grey:.1%}", file=sys.stderr)


def _attempt_until_decided(
    record: Record, plan: Plan, patches: Sequence[Patch], conditions: Conditions, spool: Spool
) -> None:
    """Run the submission, and run it again while its time is in a grey zone.

    Each attempt is a fresh process with a fresh copy of the submission; on a GPU the free memory is
    overwritten before. All attempts get the patches in the same order, and each keeps its own labels. The
    predictions are the labels of the attempt whose time counts. Raises TimeLimitError if that time exceeds a
    limit.
    """
    assert record.submission
    limits, ordered = record.time_limits, draw_order(patches, plan.order_seed)
    while not record.attempts or needs_another_attempt([a.seconds for a in record.attempts], limits):
        attempt = Attempt()
        record.attempts.append(attempt)
        spool.begin_attempt()
        try:
            overwrite_gpu_memory(conditions)
            measure(record.submission, ordered, conditions, attempt, limits, spool.add)
        except TimeLimitError:
            if len(record.attempts) == 1 or clock() > conditions.wall:
                raise
    seconds = record.counted.seconds
    if limit := exceeded(seconds, limits):
        raise TimeLimitError(f"{seconds:.4g} s of inference; the limit is {limit.sentence}")


def _require_same_work(record: Record, spool: Spool) -> None:
    """Raises SubmissionError if the attempts differ in time or labels by more than chance explains.

    An attempt can leave notes for the next one, for example in the kernel's page cache. If all attempts must
    do the same work, such notes are worth little. Raises UsageError instead if the reference's time has
    changed as well: then the machine may be the cause.
    """
    seconds = [attempt.seconds for attempt in record.attempts]
    if max(seconds) > MAX_TIME_RATIO * min(seconds):
        told = f"the submission's attempts took {', '.join(f'{one:.4g}' for one in seconds)} s"
        if record.drift is not None and abs(record.drift - 1) > MAX_GREY_ZONE:
            raise UsageError(f"{told}, and the reference has changed as well: {_STEADY}")
        raise SubmissionError(
            f"{told}; the same patches must take the same time, within {MAX_TIME_RATIO - 1:.0%}. If another "
            "program was in the way, submit again"
        )
    whole = [index for index, attempt in enumerate(record.attempts) if attempt.completed]
    changed = max((spool.difference(record.counted_index, index) for index in whole), default=0.0)
    if changed > MAX_CHANGED_PIXELS:
        raise SubmissionError(
            f"the submission's attempts differ in {changed:.1%} of the pixels; the same patches must get the "
            f"same labels, within {MAX_CHANGED_PIXELS:.0%}"
        )


def _check_machine(record: Record, plan: Plan, patches: Sequence[Patch], conditions: Conditions) -> None:
    """Raises UsageError if the machine has changed so much during the run that the verdict is uncertain."""
    _check_drift(record, plan, patches, conditions)
    _check_gpu(record)


def _check_drift(record: Record, plan: Plan, patches: Sequence[Patch], conditions: Conditions) -> None:
    """Time the reference once more; raises UsageError if its new time would turn the verdict.

    A shift within the grey zone is ignored. The reference is not timed again if there is no relative limit,
    or if no time is left for it.
    """
    limit = next((limit for limit in record.time_limits if limit.relative), None)
    if not (plan.reference and record.reference and limit) or clock() > conditions.wall:
        return
    record.drift = time_drift(plan.reference, record.reference, patches, conditions)
    if record.drift is None:
        print("warning: no time was left (wall_seconds) to time the reference once more", file=sys.stderr)
        return
    if abs(record.drift - 1) <= limit.grey:
        return
    told = f"the reference takes {record.drift:.3g} times as long after the submission as before it"
    before, after = record.time_limits, shifted(record.time_limits, record.drift)
    seconds = record.counted.expected_seconds(len(patches))
    if (exceeded(seconds, before) is None) != (exceeded(seconds, after) is None):
        raise UsageError(f"{told}, and with that time the verdict would be another one: {_STEADY}")
    print(f"warning: {told}; the verdict would be the same with that time", file=sys.stderr)


def _check_gpu(record: Record) -> None:
    """Warn if the GPU's clock has changed, or if the time is shorter than the GPU's links allow.

    Raises UsageError if others use the GPU at the end of the run.
    """
    before = record.reference.gpu if record.reference else None
    if told := describe_difference(before, record.counted.gpu):
        print(f"warning: {told}", file=sys.stderr)
    _set_floor(record)
    require_idle(record.device, "perhaps it was during the run: run again when it is free")


def _set_floor(record: Record) -> None:
    """Record the shortest time that the GPU's links allow, and warn if the submission took less."""
    counted = record.counted
    if not (record.submission and counted.completed):
        return
    requests = len(counted.latencies)
    floor = floor_seconds(record.device, record.patches, requests, record.submission.weight_bytes)
    record.floor_seconds = floor
    if floor is not None and counted.seconds < floor:
        print(
            f"warning: {counted.seconds:.4g} s of inference; this GPU takes {floor:.4g} s only to receive "
            "the aerial images and to read the submission's weights once for each request. Look at how the "
            "submission works",
            file=sys.stderr,
        )
