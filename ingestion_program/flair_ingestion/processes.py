"""The processes of a submission, as /proc shows them: which there are, their threads and memory, their end.

The parent is a child subreaper: a process that a submission detaches becomes its child and is found, too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_BLOCK_MIB = 512 / 2**20  # of st_blocks
_END_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `resident_mib` counts the pages that it shares with others in full."""

    pid: int
    parent: int
    group: int
    threads: int
    resident_mib: float


def list_processes() -> list[Process]:
    """All processes that /proc shows, zombies included."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                status = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                fields = status.rpartition(")")[2].split()  # from the third one of proc(5) on
                parent, group, threads, pages = (int(fields[index]) for index in (1, 2, 17, 21))
                found.append(Process(int(entry), parent, group, threads, pages * _PAGE_MIB))
    return found


def children(pid: int) -> set[int]:
    """Direct children of a process, zombies included."""
    return {process.pid for process in list_processes() if process.parent == pid}


def descendants(pid: int, spared: Set[int] = frozenset()) -> list[Process]:
    """All processes below `pid`, but not the trees of `spared`."""
    by_parent: dict[int, list[Process]] = {}
    for process in list_processes():
        if process.pid not in spared:
            by_parent.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    pending = [pid]
    while pending:
        below = by_parent.get(pending.pop(), [])
        found += below
        pending += [process.pid for process in below]
    return found


def held_mib(family: Sequence[Process], enough: float) -> float:
    """Memory of these processes together in MiB, with that of memfds; never counted too low for `enough`.

    The quick sum counts a shared page once per process. Where that is above `enough` (MiB), the kernel's
    proportional sums are read instead, which takes milliseconds per GiB. Not seen are memfds under way in a
    socket, and buffers of pipes and sockets: a container's limit covers them.
    """
    files = _memfd_mib([process.pid for process in family])
    quick = files + sum(process.resident_mib for process in family)
    if quick <= enough:
        return quick
    private = shared = 0.0
    for process in family:
        sums = _proportional_mib(process.pid)
        private += sums["Pss"] - sums["Pss_Shmem"] if sums else process.resident_mib
        shared += sums["Pss_Shmem"] if sums else 0.0
    return private + max(shared, files)  # a mapped memfd is in both


def peak_mib(pid: int) -> float:
    """The most resident memory that one process has held so far, in MiB; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return 0.0


def end_descendants(spared: Set[int]) -> None:
    """Kill and reap everything below this process but `spared`, until nothing is left.

    Groups first: the kernel ends one as a whole, however fast it forks. Session holds Ctrl-C back meanwhile
    (flair_scoring/interrupts.py): a second one must not leave half of it running.
    """
    deadline = time.monotonic() + _END_SECONDS
    while left := descendants(os.getpid(), spared):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {[process.pid for process in left]} cannot be killed")
        for group in {process.group for process in left} - {os.getpgrp()}:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        for process in left:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.005)


def _memfd_mib(pids: Collection[int]) -> float:
    """What the open memfds of these processes hold, each counted once."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(entry).startswith("/memfd:"):
                        status = os.stat(entry)
                        found[status.st_dev, status.st_ino] = status.st_blocks
    return sum(found.values()) * _BLOCK_MIB


def _proportional_mib(pid: int) -> dict[str, float]:
    """Pss and Pss_Shmem of a process; empty if it is gone."""
    with suppress(OSError):
        lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
        return {line[0].rstrip(":"): int(line[1]) / 2**10 for line in lines}
    return {}
