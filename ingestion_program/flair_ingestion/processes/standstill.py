"""Whether a submission stands still between two requests: it is stopped, looked at, and its gaps are counted.

The kernel gives a signal to stop to one thread of a process, and that thread passes the signal on. A thread
that is busy in the kernel passes it on late, and the other threads would run meanwhile. So each thread that
still moves gets a signal of its own. Processor time is compared from the moment of the first signal, which is
sent right after the clock has stopped.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flair_ingestion.processes.process_tree import ProcessStates, processor_seconds

CONFIRM_SECONDS = 1.0  # after the stop, every thread must be seen to stand still within this time
# Processor seconds that stopping may take, all threads together: a fixed part, a part for each thread, and a
# part for each processor, since a thread may be computing there when the signal comes
STOPPING_SECONDS, _PER_THREAD, _PER_PROCESSOR = 0.01, 2e-5, 5e-4
_COUNTED_THREADS = 200  # at most: a submission gains nothing by starting thousands
ALLOWED_GAPS, ALLOWED_SHARE = 3, 0.01  # a run with more restless gaps than both is refused
_STILL = frozenset("TZX")  # states of proc(5): stopped, ended, ending
_WAITING = "D"  # in the kernel, for a disk or a driver; such a thread stops before it computes again
_PAUSES = (0.0001, 0.02)  # seconds between two looks: the first, the longest
_libc = ctypes.CDLL(None, use_errno=True)

Look = Callable[[], Sequence[ProcessStates]]


@dataclass
class Gaps:
    """How many gaps between two requests there were, and in how many the submission did not stand still.

    `unconfirmed`: a thread was not seen to stop within CONFIRM_SECONDS. `active`: processor time was used
    after the stop, or more than stopping takes before it. `restless`: one of the two, or both. `accounted`:
    the kernel tells the processor time.
    """

    total: int = 0
    unconfirmed: int = 0
    active: int = 0
    restless: int = 0
    accounted: bool = True

    def count(self, confirmed: bool, active: bool | None) -> None:
        """Count one more gap; `active` is None where the kernel does not tell the processor time."""
        self.total += 1
        self.unconfirmed += not confirmed
        self.active += bool(active)
        self.restless += not confirmed or bool(active)
        self.accounted &= active is not None

    def too_many(self, requests: int) -> bool:
        """Whether more gaps were restless than a run with so many requests may have."""
        return self.restless > max(ALLOWED_GAPS, math.floor(ALLOWED_SHARE * requests))


@dataclass(frozen=True)
class Stop:
    """A stop of the processes `pids`.

    `confirmed`: every thread was seen to stand still. `seconds` is the processor time of each process at that
    moment, and `used` what all together have used from the first signal until then; both are None where the
    kernel does not tell. `allowed` is what they may use.
    """

    pids: list[int]
    confirmed: bool
    seconds: dict[int, float] | None
    used: float | None
    allowed: float = STOPPING_SECONDS


def stop_group(group: int, look: Look, known: Iterable[int]) -> Stop:
    """Stop a process group and wait until all its threads stand still, CONFIRM_SECONDS at most.

    `known` are the processes that were there before. All processor time of a new process counts. A process
    that is gone afterwards, without even a zombie, could have used any amount.
    """
    _signal_group(group)
    before = processor_seconds(known)
    deadline = time.monotonic() + CONFIRM_SECONDS
    pause, longest = _PAUSES
    seen = set(before or ())
    while moving := _moving_threads(family := look()):
        seen.update(process.pid for process in family)
        if time.monotonic() > deadline:
            break
        _signal_group(group)  # once more: a thread may have continued the group after the first signal
        for tid, pid, _ in moving:
            _libc.tgkill(pid, tid, signal.SIGSTOP)
        time.sleep(pause)
        pause = min(2 * pause, longest)
    pids = [process.pid for process in family]
    seconds = processor_seconds(pids)
    used = None
    if seconds is not None and before is not None:
        used = math.fsum(now - before.get(pid, 0.0) for pid, now in seconds.items())
        used = used if seen <= seconds.keys() else math.inf
    confirmed = all(state == _WAITING for _, _, state in moving)
    return Stop(pids, confirmed, seconds, used, _allowed_seconds(family))


def was_active(stop: Stop, pids: Iterable[int]) -> bool | None:
    """Whether these processes have used more processor time than allowed; None if that is not known."""
    now = processor_seconds(pids)
    if stop.used is None or stop.seconds is None or now is None:
        return None
    return stop.used > stop.allowed or any(now[pid] != stop.seconds.get(pid) for pid in now)


def _allowed_seconds(family: Iterable[ProcessStates]) -> float:
    """What stopping may take: an idle thread takes microseconds, and one that computes takes longer."""
    threads = min(sum(len(process.states) for process in family), _COUNTED_THREADS)
    return STOPPING_SECONDS + threads * _PER_THREAD + len(os.sched_getaffinity(0)) * _PER_PROCESSOR


def _moving_threads(family: Iterable[ProcessStates]) -> list[tuple[int, int, str]]:
    """Thread, process and state of each thread that does not stand still."""
    return [
        (tid, process.pid, state)
        for process in family
        for tid, state in process.states.items()
        if state not in _STILL
    ]


def _signal_group(group: int) -> None:
    with suppress(ProcessLookupError):  # a death is noticed where an answer is awaited
        os.killpg(group, signal.SIGSTOP)
