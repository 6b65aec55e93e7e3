"""The processes of a submission, as /proc shows them: which there are, their memory, their end.

The parent is a child subreaper: a process that a submission detaches becomes its child and is found, too.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_END_SECONDS = 30.0


def children(pid: int) -> set[int]:
    """Direct children of a process, zombies included."""
    return _by_parent()[pid]


def descendants(pid: int, spared: Set[int] = frozenset()) -> list[int]:
    """All processes below `pid`, but not the trees of `spared`."""
    by_parent = _by_parent()
    found: list[int] = []
    pending = [pid]
    while pending:
        below = by_parent[pending.pop()] - spared
        found += below
        pending += below
    return found


def resident_mib(pids: list[int]) -> float:
    """Resident memory of these processes together, in MiB; pages that they share count for each."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB
    return total


def peak_mib(pid: int) -> float:
    """The most resident memory that one process has held so far, in MiB; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return 0.0


def end_descendants(spared: Set[int]) -> None:
    """Kill and reap everything below this process but `spared`, until nothing is left.

    Signals wait meanwhile: a second Ctrl-C must not leave half of it running.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        deadline = time.monotonic() + _END_SECONDS
        while left := descendants(os.getpid(), spared):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {left} cannot be killed")
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _by_parent() -> defaultdict[int, set[int]]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                status = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                found[int(status.rpartition(")")[2].split()[1])].add(int(entry))
    return found
