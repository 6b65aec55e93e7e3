"""The threads of other processes, and through which of them a process can be looked into.

The main thread of a process may end before the others. /proc/PID then shows a zombie that holds nothing,
while the others still hold everything. So a process is looked into through a thread that lives.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterable

GONE = (FileNotFoundError, ProcessLookupError)  # what reading says of a process that has ended meanwhile
DESCRIPTORS, MEMORY = 2, 1  # what threads may have in common: KCMP_FILES, KCMP_VM of kcmp(2)
_TRIES = 20
_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)


class HiddenError(Exception):
    """A process that lives does not let us see what it holds."""


def read(path: str) -> bytes:
    """All of a file of /proc; empty if its process has ended. May raise other OSErrors."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except GONE:
        return b""


def thread_ids(pid: int) -> list[int]:
    """The threads of a process, the main one first even if it has ended; none if the process is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except GONE:
        return []


def thread_folder(pid: int, tid: int) -> str:
    """Where /proc shows one thread of a process."""
    return f"/proc/{pid}/task/{tid}"


def living_thread(pid: int) -> tuple[int, bytes] | None:
    """A thread that has the memory of its process, and its `status`; None if the process holds none any more.

    Raises HiddenError where that must not be read, or threads follow each other too fast for it.
    """
    try:
        status = read(f"/proc/{pid}/status")
        if has_memory(status):
            return pid, status
        for _ in range(_TRIES):
            others = [tid for tid in thread_ids(pid) if tid != pid]
            dying = not others
            for tid in others:
                status = read(f"{thread_folder(pid, tid)}/status")
                if has_memory(status):
                    return tid, status
                dying |= bool(status)
            if dying:  # a thread gives up its memory before it leaves the list
                return None
    except PermissionError:
        pass
    raise HiddenError(pid)


def has_memory(status: bytes) -> bool:
    """Whether this is the `status` of a thread that is not yet about to end."""
    return b"\nVmRSS:" in status


def refuse_hidden(thread: str) -> None:
    """Raises HiddenError if a thread lives, at a place of /proc where reading something else was not allowed.

    The kernel refuses that also for a moment while a thread ends: such a one has no memory any more.
    """
    if has_memory(read(f"{thread}/status")):
        raise HiddenError(thread)


def distinct(tids: Iterable[int], shared: int) -> list[int]:
    """One thread for each of the tables (DESCRIPTORS, MEMORY) that these threads, of any process, share.

    All of them where the kernel does not say what they share, as in some containers.
    """
    if _KCMP is None:
        return list(tids)
    found: list[int] = []
    order = functools.cmp_to_key(functools.partial(_compare, shared))
    for tid in sorted(tids, key=order):
        if not found or _compare(shared, found[-1], tid):
            found.append(tid)
    return found


def _compare(shared: int, one: int, other: int) -> int:
    """0 if two threads share a table, else their order, 1 if that is not known."""
    return (0, -1, 1, 1)[_libc.syscall(_KCMP, one, other, shared, 0, 0)]
