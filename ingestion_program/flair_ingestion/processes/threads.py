"""The threads of other processes, and the one through which a process can be looked into.

The main thread of a process may end before the others. Then /proc/PID shows a zombie that holds nothing,
while the other threads still hold everything. So a process is looked into through a thread that lives.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterable

GONE = (FileNotFoundError, ProcessLookupError)  # raised by reading files of a process that has ended
DESCRIPTORS, MEMORY = 2, 1  # tables that threads may share: KCMP_FILES and KCMP_VM of kcmp(2)
_TRIES = 20
_CONFIRMED = 3  # so often no living thread must be found
_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)


class HiddenError(Exception):
    """We may not see what a living process holds."""


def read(path: str) -> bytes:
    """The content of a file in /proc; empty if its process has ended. May raise other OSErrors."""
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
    """The folder of one thread of a process in /proc."""
    return f"/proc/{pid}/task/{tid}"


def living_thread(pid: int) -> tuple[int, bytes] | None:
    """A thread that still has the memory of its process, and its `status`; None if the process has ended.

    Raises HiddenError where that must not be read, or where threads begin and end too fast to be read.
    """
    try:
        status = read(f"/proc/{pid}/status")
        if has_memory(status):
            return pid, status
        ended = 0
        for _ in range(_TRIES):
            others = [tid for tid in thread_ids(pid) if tid != pid]
            dying = not others
            for tid in others:
                status = read(f"{thread_folder(pid, tid)}/status")
                if has_memory(status):
                    return tid, status
                dying |= bool(status)
            ended += dying  # a thread that ends gives up its memory first, and then leaves the list
            if ended == _CONFIRMED:  # once is not enough: it may have started another one after it was listed
                return None
    except PermissionError:
        pass
    raise HiddenError(pid)


def has_memory(status: bytes) -> bool:
    """Whether a thread with this `status` still has its memory: it has not begun to end."""
    return b"\nVmRSS:" in status


def refuse_hidden(thread: str) -> None:
    """Raises HiddenError if a thread lives; called after the kernel has refused to show a file of it.

    The kernel also refuses that for a moment while a thread ends, and such a thread has no memory any more.
    """
    if has_memory(read(f"{thread}/status")):
        raise HiddenError(thread)


def distinct(tids: Iterable[int], shared: int) -> list[int]:
    """One of these threads for each table (`shared`: DESCRIPTORS or MEMORY) that some of them share.

    The threads may belong to any process. All are returned where the kernel does not tell what they share, as
    in some containers.
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
    """0 if two threads share a table; otherwise -1 or 1, an order of the tables, and 1 if it is unknown."""
    return (0, -1, 1, 1)[_libc.syscall(_KCMP, one, other, shared, 0, 0)]
