"""One look at a process: the state of each of its threads, and which processes these have begun.

Exact while everything stands still. What begins or ends during a look is noticed, or found by the next look.
"""

from __future__ import annotations

import functools
import os
import resource
from types import TracebackType

from flair_ingestion.processes.threads import GONE, thread_folder, thread_ids

UNSEEN = "?"  # the state of a thread or process that changes faster than it can be read, or that hides
_TRIES = 5
_PAGE = 4096  # the kernel answers a longer list in pieces of at most this size
_MOST_KEPT, _SPARE = 640, 384  # the most descriptors that are kept open; how many are left to other things


class KeptFiles:
    """Files of /proc that stay open from one look to the next, which then takes a third of the time.

    To be closed, as by `with`. Without `most`, the number of descriptors, it depends on what is allowed.
    """

    def __init__(self, most: int | None = None) -> None:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max(min(_MOST_KEPT, allowed - _SPARE), 0) if most is None else most
        self._kept: dict[int, list[int]] = {}

    def __enter__(self) -> KeptFiles:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close them all; what is looked at afterwards is opened again."""
        while self._kept:
            self._forget(next(iter(self._kept)))

    def look(self, pid: int, tid: int) -> tuple[bytes, bytes] | None:
        """`stat` of a thread and then its `children`; None if it is gone.

        In this order: of a thread that stands still in `stat`, no child is missing in `children`.
        """
        if tid in self._kept:
            try:
                return _contents(self._kept[tid])
            except ProcessLookupError:  # this thread is gone, but another one may have its number
                self._forget(tid)
        try:
            self._kept[tid] = _open(thread_folder(pid, tid))
            return _contents(self._kept[tid])
        except GONE:
            return None
        finally:
            while 2 * len(self._kept) > self._most:
                self._forget(next(iter(self._kept)))  # the oldest, which may have ended

    def own_children(self, tid: int) -> set[int]:
        """The children of a thread of ours; none once it has ended: our main thread has got them."""
        kept = self._kept.get(tid)
        listed = _children(kept) if kept else (self.look(os.getpid(), tid) or (b"", b""))[1]
        return set(map(int, listed.split()))

    def _forget(self, tid: int) -> None:
        for descriptor in self._kept.pop(tid):
            os.close(descriptor)


@functools.cache
def lists_children() -> bool:
    """Whether this kernel lists the children of each thread."""
    return os.path.exists(f"{thread_folder(os.getpid(), os.getpid())}/children")


def look_at(pid: int, files: KeptFiles) -> tuple[dict[int, str], set[int]]:
    """The state of each thread of a process, by the letters of proc(5) or UNSEEN; and their children.

    No states if the process is gone.
    """
    states: dict[int, str] = {}
    below: set[int] = set()
    for _ in range(_TRIES):
        if _look_once(pid, files, states, below):
            return states, below
    return {**states, -pid: UNSEEN}, below


def _look_once(pid: int, files: KeptFiles, states: dict[int, str], below: set[int]) -> bool:
    """Write down the states, add the children to `below`; whether no thread has ended or begun meanwhile.

    The kernel gives the children of a thread that ends to another one, whose list may have been read before.
    """
    states.clear()
    main = _note(pid, pid, files, states, below)
    if main is None:
        return not _exists(pid)
    count = int(main.split(b" ", 18)[17])
    if count == 1:
        return True
    tids = thread_ids(pid)
    whole = count <= len(tids)
    for tid in tids:
        if tid != pid:
            whole = _note(pid, tid, files, states, below) is not None and states[tid] not in "ZX" and whole
    return whole


def _note(pid: int, tid: int, files: KeptFiles, states: dict[int, str], below: set[int]) -> bytes | None:
    """Write down state and children of a thread; its `stat` from the state on, None if it cannot be seen."""
    try:
        seen = files.look(pid, tid)
    except PermissionError:
        seen = None
    if seen is None:
        return None
    stat, children = seen
    if children:
        below.update(map(int, children.split()))
    fields = stat[stat.rindex(b")") + 2 :]  # its name may hold anything
    states[tid] = chr(fields[0])
    return fields


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _open(thread: str) -> list[int]:
    """Descriptors of `stat` and, where there are such lists, `children` of a thread."""
    descriptors = [os.open(f"{thread}/stat", os.O_RDONLY | os.O_CLOEXEC)]
    if lists_children():
        try:
            descriptors.append(os.open(f"{thread}/children", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            os.close(descriptors[0])
            raise
    return descriptors


def _contents(descriptors: list[int]) -> tuple[bytes, bytes]:
    return os.pread(descriptors[0], _PAGE, 0), _children(descriptors)


def _children(descriptors: list[int]) -> bytes:
    listed = b""
    for descriptor in descriptors[1:]:
        while part := os.pread(descriptor, _PAGE, len(listed)):
            listed += part
            if len(part) < _PAGE // 2:  # the last piece: others are full, but for less than one number
                break
    return listed
