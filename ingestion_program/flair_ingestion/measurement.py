"""The inference time of a submission: an attempt over all patches, with our own work off the clock."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from flair_ingestion.clock import clock
from flair_ingestion.dataset import Patch, read_dates
from flair_ingestion.devices.device import Device
from flair_ingestion.devices.gpu_states import GpuWatch, watch_gpu
from flair_ingestion.devices.nvidia import GpuState
from flair_ingestion.limits import Limits, TimeLimit, stop_seconds
from flair_ingestion.processes.standstill import ALLOWED_GAPS, ALLOWED_SHARE, Gaps
from flair_ingestion.reading import Groups, Readers, Requests, read_here, start_readers
from flair_ingestion.sandbox.child import Budget
from flair_ingestion.scheduling import Scheduling, current_scheduling, restore_scheduling
from flair_ingestion.session import Session
from flair_ingestion.shared_memory import request_bytes
from flair_ingestion.submission import Submission
from flair_scoring.base.errors import SubmissionError, TimeLimitError

Deliver = Callable[[Sequence[Patch], np.ndarray], object]


@dataclass(frozen=True)
class Conditions:
    """What is the same for reference and submission; `wall` is the end of the whole run on `clock`."""

    device: Device
    limits: Limits
    wall: float
    sandbox_level: str
    series_lengths: list[int]


@dataclass
class Attempt:
    """One run of a submission in a fresh process; it is filled while the submission runs.

    `latencies` holds the seconds of each request; if the run was stopped, the last one is the time until
    then. `counts` holds the number of patches of each answered request. `gaps` counts the times between two
    requests, also those of the warm-up. `gpu` tells how the GPU ran during the requests.
    """

    batch_size: int = 1
    load_seconds: float | None = None
    warmup_seconds: float | None = None
    latencies: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    completed: bool = False
    gaps: Gaps = field(default_factory=Gaps)
    host_mib: float | None = None
    accelerator_mib: float | None = None
    gpu: GpuState | None = None
    sandbox: str | None = None
    software: dict[str, Any] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)  # the last lines that it printed

    @property
    def seconds(self) -> float:
        """The inference time."""
        return math.fsum(self.latencies)

    def expected_seconds(self, patches: int) -> float:
        """The inference time for `patches` patches; after a stop, what it would be at the same pace.

        The request that was stopped counts as answered, so the true time would be longer still.
        """
        begun = min(sum(self.counts) + self.batch_size, patches)
        return self.seconds if self.completed else self.seconds * patches / begun


def series_lengths(patches: Sequence[Patch]) -> list[int]:
    """The lengths of the shortest, the median and the longest series, each once, in ascending order."""
    lengths = sorted(len(read_dates(path)) for path in {patch.super_area.products for patch in patches})
    return sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})


def measure(
    submission: Submission,
    patches: Sequence[Patch],
    conditions: Conditions,
    attempt: Attempt,
    limits: Sequence[TimeLimit] = (),
    deliver: Deliver | None = None,
    title: str = "submission",
) -> None:
    """Run the submission over the patches in their order, fill `attempt`, hand the labels to `deliver`.

    The labels are valid until `deliver` returns. Raises what Session raises, TimeLimitError as soon as the
    inference time is beyond a limit's grey zone, and SubmissionError if the submission did not stand still in
    too many gaps.
    """
    with work_beside(conditions.device) as (readers, watch):
        session = Session(submission, conditions.device, conditions.limits, conditions.wall)
        try:
            with session:
                session.start(conditions.sandbox_level)
                attempt.gaps = session.child.gaps
                attempt.sandbox, attempt.software = session.sandbox_level, session.software
                attempt.load_seconds = session.load()
                size = attempt.batch_size = session.batch_size
                groups = [patches[start : start + size] for start in range(0, len(patches), size)]
                counts = sorted({len(group) for group in groups}, reverse=True)
                attempt.warmup_seconds = session.warm_up(counts, conditions.series_lengths)
                with (
                    tqdm(total=len(patches), desc=title, unit="patch", mininterval=1) as progress,
                    closing(_read(readers, groups, session, conditions)) as requests,
                ):
                    begin = clock()
                    try:
                        at_rest = readers.at_rest if readers else nullcontext
                        _predict_groups(
                            session, groups, requests, attempt, limits, deliver, progress, at_rest
                        )
                    finally:
                        done = sum(attempt.counts)
                        attempt.gpu = watch.between(begin, clock(), done) if watch else None
                attempt.accelerator_mib = session.end()
                _require_rest(attempt.gaps, len(groups), "end")
                _tell_of_gaps(attempt.gaps)
                attempt.completed = True
        finally:
            attempt.host_mib = session.child.peak_mib
            attempt.output = session.child.last_output()


@contextmanager
def work_beside(device: Device) -> Iterator[tuple[Readers | None, GpuWatch | None]]:
    """On CUDA, start processes that read data and one that watches the GPU; on the CPU, none (None, None)."""
    if device.kind == "cpu":
        yield None, None
        return
    with start_readers() as readers, watch_gpu(device.visible_gpu or "", readers.processors) as watch:
        yield readers, watch


def _read(readers: Readers | None, groups: Groups, session: Session, conditions: Conditions) -> Requests:
    """The requests, from the readers if there are any."""
    window = session.superpatch_size
    if readers is None:
        return read_here(groups, window)
    largest = request_bytes(session.batch_size, window, conditions.series_lengths[-1])
    return readers.read(groups, window, largest)


def _predict_groups(
    session: Session,
    groups: Groups,
    requests: Requests,
    attempt: Attempt,
    limits: Sequence[TimeLimit],
    deliver: Deliver | None,
    progress: tqdm,
    at_rest: Callable[[], AbstractContextManager[None]],
) -> None:
    """Put every request through the session; between two of them, deliver labels and read the next one.

    While the session has a request, readers are `at_rest`.
    """
    spent, stop, scheduling = 0.0, stop_seconds(limits), current_scheduling()
    for number, (group, request) in enumerate(zip(groups, requests, strict=True), 1):
        step = f"request {number} of {len(groups)}"
        budget = session.budget(step, "request_seconds")
        if stop - spent < budget.seconds:
            budget = Budget(step, stop - spent, _excess(limits, attempt, progress.total))
        begin = clock()
        try:
            with at_rest():
                labels, seconds = session.predict(request, budget)
        except TimeLimitError:
            attempt.latencies.append(clock() - begin)
            raise
        spent += seconds
        attempt.latencies.append(seconds)
        attempt.counts.append(len(group))
        if spent > stop:
            raise _excess(limits, attempt, progress.total)
        _require_rest(attempt.gaps, len(groups), step)
        _keep_scheduling(scheduling)
        if deliver:
            deliver(group, labels)
        progress.update(len(group))


def _require_rest(gaps: Gaps, requests: int, step: str) -> None:
    if gaps.too_many(requests):
        raise SubmissionError(
            f"{step}: the submission did not stand still in {gaps.restless} of {gaps.total} gaps between two "
            f"requests; {ALLOWED_GAPS} such gaps or {ALLOWED_SHARE:.0%} of all are allowed. Finish all work "
            "before predict returns"
        )


def _tell_of_gaps(gaps: Gaps) -> None:
    if gaps.restless:
        print(
            f"note: the submission did not stand still in {gaps.restless} of {gaps.total} gaps between two "
            f"requests; {ALLOWED_GAPS}, or {ALLOWED_SHARE:.0%} of all, are allowed",
            file=sys.stderr,
        )


def _keep_scheduling(expected: Scheduling) -> None:
    for sentence in restore_scheduling(expected):
        print(f"warning: {sentence}", file=sys.stderr)


def _excess(limits: Sequence[TimeLimit], attempt: Attempt, total: int) -> TimeLimitError:
    limit = min(limits, key=lambda limit: limit.stop)
    return TimeLimitError(
        f"stopped after {sum(attempt.counts)} of {total} patches: inference takes longer than "
        f"{limit.sentence} and the grey zone of {limit.grey:.1%}"
    )
