"""The inference time of a submission: every patch through a fresh session, organizer's work off the clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from flair_ingestion.child import Budget, clock
from flair_ingestion.dataset import Patch, read_dates
from flair_ingestion.devices import Device
from flair_ingestion.exchange import read_request
from flair_ingestion.limits import Limits, TimeLimit, stop_seconds
from flair_ingestion.session import Session
from flair_ingestion.submission import Submission
from flair_scoring.errors import FlairError, TimeLimitError

SINGLES = 5  # requests of one patch, for the latency of those
Deliver = Callable[[Sequence[Patch], np.ndarray], object]


@dataclass(frozen=True)
class Conditions:
    """What reference and submission share. `wall` is the end of the whole run on `clock`."""

    device: Device
    limits: Limits
    wall: float
    cage_level: str
    series_lengths: list[int]


@dataclass
class Attempt:
    """One run in a fresh process, filled while it runs, so that an aborted one tells how far it came.

    `latencies` in seconds, one per request, of an aborted run the last one until it was stopped; `counts` are
    the patches of each answered request; `single_seconds` one request of one patch takes.
    """

    load_seconds: float | None = None
    warmup_seconds: float | None = None
    latencies: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    completed: bool = False
    single_seconds: float | None = None
    host_mib: float | None = None
    accelerator_mib: float | None = None
    cage: str | None = None
    software: dict[str, Any] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)  # the last lines that it printed

    @property
    def seconds(self) -> float:
        """Inference time."""
        return math.fsum(self.latencies)


def series_lengths(patches: Sequence[Patch]) -> list[int]:
    """Shortest, median and longest series of these patches, without repetition, ascending."""
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

    Raises what Session raises, and TimeLimitError as soon as the inference is beyond a limit's grey zone.
    """
    session = Session(submission, conditions.device, conditions.limits, conditions.wall)
    try:
        with session:
            session.start(conditions.cage_level)
            attempt.cage, attempt.software = session.cage_level, session.software
            attempt.load_seconds = session.load()
            size = session.batch_size
            groups = [patches[start : start + size] for start in range(0, len(patches), size)]
            counts = sorted({len(group) for group in groups}, reverse=True)
            attempt.warmup_seconds = session.warm_up(counts, conditions.series_lengths)
            with tqdm(total=len(patches), desc=title, unit="patch", mininterval=1) as progress:
                pool = ThreadPoolExecutor(2) if conditions.device.kind == "cuda" else _AtOnce()
                with pool:
                    _predict_groups(session, groups, attempt, limits, deliver, progress, pool)
            answers, attempt.single_seconds = _time_single_patches(session, patches, attempt)
            attempt.accelerator_mib = session.end() if answers else None
            attempt.completed = True
    finally:
        attempt.host_mib = session.child.peak_mib
        attempt.output = session.child.last_output()


def _predict_groups(
    session: Session,
    groups: Sequence[Sequence[Patch]],
    attempt: Attempt,
    limits: Sequence[TimeLimit],
    deliver: Deliver | None,
    progress: tqdm,
    pool: Executor,
) -> None:
    """Every group through the session, while `pool` reads the next one and delivers the one before."""
    spent, stop, size = 0.0, stop_seconds(limits), session.superpatch_size
    upcoming = pool.submit(read_request, groups[0], size)
    delivered: Future[object] = pool.submit(int)
    for number, group in enumerate(groups, 1):
        request = upcoming.result()
        if number < len(groups):
            upcoming = pool.submit(read_request, groups[number], size)
        budget = session.budget(f"request {number} of {len(groups)}", "request_seconds")
        if stop - spent < budget.seconds:
            budget = Budget(budget.step, stop - spent, _excess(limits, attempt, progress.total))
        begin = clock()
        try:
            labels, seconds = session.predict(request, budget)
        except TimeLimitError:
            attempt.latencies.append(clock() - begin)
            raise
        spent += seconds
        attempt.latencies.append(seconds)
        attempt.counts.append(len(group))
        if spent > stop:
            raise _excess(limits, attempt, progress.total)
        delivered.result()
        if deliver:
            delivered = pool.submit(deliver, group, labels)
        progress.update(len(group))
    delivered.result()


def _time_single_patches(
    session: Session, patches: Sequence[Patch], attempt: Attempt
) -> tuple[bool, float | None]:
    """Whether the submission still answers, and the median seconds of a request of one patch.

    Where requests were larger, some follow off the counted time; the first of them only warms up. A
    submission that fails there has done its work: that is no error, but its process is of no use any more.
    """
    if session.batch_size == 1:
        return True, statistics.median(attempt.latencies)
    seconds: list[float] = []
    left = session.budget("requests of one patch", "request_seconds").seconds
    for number in range(SINGLES + 1):
        patch = patches[number * len(patches) // (SINGLES + 1)]
        budget = session.budget("requests of one patch", "request_seconds", left - math.fsum(seconds))
        try:
            seconds.append(session.predict(read_request([patch], session.superpatch_size), budget)[1])
        except FlairError:
            return False, None
    return True, statistics.median(seconds[1:])


def _excess(limits: Sequence[TimeLimit], attempt: Attempt, total: int) -> TimeLimitError:
    limit = min(limits, key=lambda limit: limit.stop)
    return TimeLimitError(
        f"stopped after {sum(attempt.counts)} of {total} patches: inference takes longer than "
        f"{limit.sentence} and the grey zone of {limit.grey:.1%}"
    )


class _AtOnce(Executor):
    """Does each task when it is submitted, so that on the CPU nothing of ours runs while the clock runs."""

    def submit(self, task: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        """The result of the task, as a future that is done."""
        done: Future[Any] = Future()
        done.set_result(task(*arguments, **options))
        return done
