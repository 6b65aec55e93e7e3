"""How much memory processes hold together, and the most that one of them has held."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from flair_ingestion.processes import holdings
from flair_ingestion.processes.holdings import Holdings, look_into
from flair_ingestion.processes.threads import (
    MEMORY,
    HiddenError,
    distinct,
    living_thread,
    read,
    refuse_hidden,
    thread_folder,
)

_NOTHING_KNOWN: Mapping[int, float] = MappingProxyType({})
_OWN = ("VmRSS", "VmSwap", "VmPTE")  # resident, swapped out, and the tables that say where all pages are


class _Process(Protocol):
    @property
    def pid(self) -> int: ...


def held_mib(family: Iterable[_Process], enough: float, known: Mapping[int, float] = _NOTHING_KNOWN) -> float:
    """The memory of these processes together in MiB, with the files in memory that they have open or mapped.

    A quick sum counts a shared page once for each process, so it is never too low. If it is above `enough`
    (MiB), the kernel's proportional sums are read, which takes milliseconds for each GiB. `known` are the MiB
    of memfds by inode, used for those that are mapped. The result is infinite if a process hides what it
    holds.

    Not counted are memfds under way in a socket, buffers of pipes and sockets, and the unmapped rest of a
    memfd where a privilege is missing (holdings.Mapping). A container's limit covers these.
    """
    try:
        device = holdings.memory_device()
        held = {process.pid: found for process in family if (found := look_into(process.pid, device))}
        files = _files_mib(held.values(), known)
        quick = files + sum(_sum_mib(one.status, *_OWN) for one in held.values())
        return quick if quick <= enough else _exact_mib(held, files)
    except HiddenError:
        return math.inf


def resident_mib(pid: int) -> float:
    """Resident memory of one process; infinite if it hides that, 0 once it is gone."""
    return _told_mib(pid, "VmRSS", math.inf)


def peak_mib(pid: int) -> float:
    """The most resident memory that one process has held so far, in MiB; 0 once it is gone or hides it."""
    return _told_mib(pid, "VmHWM", 0.0)


def _told_mib(pid: int, name: str, hidden: float) -> float:
    try:
        living = living_thread(pid)
    except HiddenError:
        return hidden
    return _sum_mib(living[1], name) if living else 0.0


def _sum_mib(report: bytes, *names: str) -> float:
    """The sum in MiB of the lines `names` of a `status` or `smaps_rollup`; a missing line counts as 0."""
    lines = re.findall(rb"^(?:%s):\s+(\d+) kB" % "|".join(names).encode(), report, re.M)
    return sum(map(int, lines)) / 2**10


def _files_mib(held: Iterable[Holdings], known: Mapping[int, float]) -> float:
    """MiB of the files in memory that processes have open or mapped; each file counts once."""
    sizes: dict[int, float] = {}
    mapped: dict[int, holdings.Mapping] = {}
    for one in held:
        for status in one.open:
            if status.st_dev == holdings.memory_device():
                sizes[status.st_ino] = status.st_blocks * holdings.BLOCK_MIB
        for part in one.mapped:
            if part.inode not in mapped or mapped[part.inode].end_mib < part.end_mib:
                mapped[part.inode] = part
    for inode, part in mapped.items():
        if inode not in sizes:
            sizes[inode] = known[inode] if inode in known else part.size_mib()
    return sum(sizes.values())


def _exact_mib(held: Mapping[int, Holdings], files: float) -> float:
    """MiB by the kernel's proportional sums: a page that n processes share counts as an n-th for each.

    Processes that share all their memory are counted once.
    """
    apart = set(distinct((one.tid for one in held.values()), MEMORY))
    private = shared = 0.0
    for pid, one in held.items():
        if one.tid in apart:
            sums = _proportional(thread_folder(pid, one.tid))
            of_files = _sum_mib(sums, "Pss_Shmem")
            own = _sum_mib(sums, "Pss", "SwapPss") + _sum_mib(one.status, "VmPTE") - of_files
            private += own if sums else _sum_mib(one.status, *_OWN)
            shared += of_files
    return private + max(shared, files)  # both contain the mapped files


def _proportional(thread: str) -> bytes:
    """`smaps_rollup` of a process; empty if it is gone. May raise HiddenError."""
    try:
        return read(f"{thread}/smaps_rollup")
    except PermissionError:
        refuse_hidden(thread)
    return b""
