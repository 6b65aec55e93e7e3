"""One look at a process: the state of each of its threads, and the processes that these have started.

A look is exact while everything stands still. A thread or process that begins or ends during a look is
noticed, or found by the next look.
"""

from __future__ import annotations

import functools
import os
import resource
from types import TracebackType

from flair_ingestion.processes.threads import GONE, thread_folder, thread_ids

UNSEEN = "?"  # the state of a thread or process that changes faster than it can be read, or is hidden
_TRIES = 5
_PAGE = 4096  # the kernel gives a longer list in pieces of at most so many bytes
_MOST_KEPT, _SPARE = 640, 384  # the most descriptors that stay open; how many are left for other use


class KeptFiles:
    """Files of /proc that stay open from one look to the next; the next look then takes a third of the time.

    To be closed, as by `with`. `most` is the number of descriptors; by default it follows the limit on them.
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
        """Close all files; a later look opens them again."""
        while self._kept:
            self._forget(next(iter(self._kept)))

    def look(self, pid: int, tid: int) -> tuple[bytes, bytes] | None:
        """The contents of `stat` and `children` of a thread; None if it is gone.

        They are read in this order: if `stat` says that the thread stands still, `children` lacks no child.
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
        """The children of a thread of this process; once it has ended, the main thread has them."""
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
    """The state of each thread of a process, a letter of proc(5) or UNSEEN, and the children of all threads.

    There are no states if the process is gone.
    """
    states: dict[int, str] = {}
    below: set[int] = set()
    for _ in range(_TRIES):
        if _look_once(pid, files, states, below):
            return states, below
    return {**states, -pid: UNSEEN}, below


def _look_once(pid: int, files: KeptFiles, states: dict[int, str], below: set[int]) -> bool:
    """Fill `states`, add children to `below`; returns whether no thread has begun or ended meanwhile.

    When a thread ends, another thread gets its children, and that one's list may have been read before.
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
    """Note state and children of a thread. Returns its `stat` from the state on, None if that is hidden."""
    try:
        seen = files.look(pid, tid)
    except PermissionError:
        seen = None
    if seen is None:
        return None
    stat, children = seen
    if children:
        below.update(map(int, children.split()))
    fields = stat[stat.rindex(b")") + 2 :]  # the name before it may hold any character
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
    """Descriptors of a thread's `stat` and, where the kernel has it, of its `children`."""
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
            if len(part) < _PAGE // 2:  # the last piece: each other one lacks less than one number
                break
    return listed
