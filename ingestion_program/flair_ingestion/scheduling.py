"""How the kernel schedules the process that holds the clock; changes that somebody else makes are put back.

Any process of the same user may slow this one down with a lower priority, another policy or fewer processors.
The sandbox refuses that to a submission (system_calls.py). Other programs may do it, and so may a submission
where the kernel has no filter of system calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass

from flair_scoring.base.errors import UsageError

# Numbers of ioprio_set and ioprio_get; the C library has neither of them
_IOPRIO_CALLS = {"x86_64": (251, 252), "aarch64": (30, 31)}
_IOPRIO_WHO_PROCESS = 1
_POLICIES = {0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE"}
_POLICIES |= {6: "SCHED_DEADLINE", 7: "SCHED_EXT"}
_NAMES = {"nice": "niceness", "io_priority": "I/O priority"}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Scheduling:
    """What decides when a thread runs; `io_priority` as ioprio_get(2) packs it, None where it is unknown."""

    policy: int
    priority: int
    nice: int
    processors: frozenset[int]
    io_priority: int | None


def current_scheduling() -> Scheduling:
    """The scheduling of this process's main thread, whichever thread asks."""
    thread = os.getpid()
    return Scheduling(
        os.sched_getscheduler(thread),
        os.sched_getparam(thread).sched_priority,
        os.getpriority(os.PRIO_PROCESS, thread),
        frozenset(os.sched_getaffinity(thread)),
        _io_priority(thread),
    )


def restore_scheduling(expected: Scheduling) -> list[str]:
    """Put back what another process has changed; returns a sentence for each change, usually none.

    Raises UsageError if a change cannot be put back.
    """
    if current_scheduling() == expected:
        return []
    restored, lost = [], []
    for name, restore in _RESTORE.items():  # read again each time: the I/O priority may follow nice
        found, wanted = getattr(current_scheduling(), name), getattr(expected, name)
        if found == wanted:
            continue
        words = f"{_NAMES.get(name, name)} became {_tell(name, found)} instead of {_tell(name, wanted)}"
        try:
            restore(expected)
            reason = "it does not stay"
        except OSError as error:
            reason = str(error.strerror)
        if getattr(current_scheduling(), name) == wanted:
            restored.append(f"another process has slowed this one down: its {words}; it was put back")
        else:
            lost.append(f"its {words} ({reason})")
    if lost:
        raise UsageError(
            f"another process has slowed this one down and that cannot be undone: {', '.join(lost)}, so a "
            "time measured now would be worthless; find out which process it was, and start again"
        )
    return restored


def _tell(name: str, value: int | Collection[int] | None) -> str:
    if isinstance(value, Collection):
        return ",".join(map(str, sorted(value)))
    return _POLICIES.get(value or 0, str(value)) if name == "policy" else str(value)


def _io_priority(thread: int) -> int | None:
    if platform.machine() not in _IOPRIO_CALLS:
        return None
    found = int(_libc.syscall(_IOPRIO_CALLS[platform.machine()][1], _IOPRIO_WHO_PROCESS, thread))
    return found if found >= 0 else None  # the kernel has no such call, or a container refuses it


def _restore_policy(expected: Scheduling) -> None:
    os.sched_setscheduler(os.getpid(), expected.policy, os.sched_param(expected.priority))


def _restore_nice(expected: Scheduling) -> None:
    os.setpriority(os.PRIO_PROCESS, os.getpid(), expected.nice)


def _restore_processors(expected: Scheduling) -> None:
    os.sched_setaffinity(os.getpid(), expected.processors)


def _restore_io_priority(expected: Scheduling) -> None:
    number = _IOPRIO_CALLS[platform.machine()][0]
    if _libc.syscall(number, _IOPRIO_WHO_PROCESS, os.getpid(), expected.io_priority) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_RESTORE: dict[str, Callable[[Scheduling], None]] = {
    "policy": _restore_policy,
    "priority": _restore_policy,
    "nice": _restore_nice,
    "processors": _restore_processors,
    "io_priority": _restore_io_priority,
}
