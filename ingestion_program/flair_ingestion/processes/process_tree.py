"""The processes below this one, as /proc shows them: which there are, their states and times, their end.

This process is a child subreaper: a process that a submission detaches becomes its child, and is found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import dataclass

from flair_ingestion.processes.look import KeptFiles, lists_children, look_at
from flair_ingestion.processes.memory import resident_mib
from flair_ingestion.processes.threads import read, thread_ids

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_END_SECONDS = 30.0
_CLOCK_OF_PROCESS = 2  # the processor time of all threads of a process, also of those that have ended


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `resident_mib` counts the pages that it shares with others in full."""

    pid: int
    parent: int
    group: int
    threads: int
    resident_mib: float


@dataclass(frozen=True, slots=True)
class ProcessStates:
    """One process, and the state of each of its threads: a letter of proc(5), or look.UNSEEN."""

    pid: int
    states: dict[int, str]


def list_processes() -> list[Process]:
    """All processes that /proc shows, zombies included."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [process for pid in pids if (process := _read_process(pid))]


def children(pid: int) -> set[int]:
    """Direct children of a process, zombies included."""
    return {process.pid for process in list_processes() if process.parent == pid}


def descendants(pid: int, spared: Set[int] = frozenset()) -> list[Process]:
    """All processes below `pid`, without the processes `spared` and those below them."""
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


def family(
    pid: int, spared: Set[int] = frozenset(), files: KeptFiles | None = None, starter: int | None = None
) -> list[ProcessStates]:
    """The child `pid` of this process, and all others below this process, without the trees of `spared`.

    It is faster with `files`, kept from one call to the next, and with `starter`, the thread of this process
    that has started `pid`. Only that thread, and the main thread, which gets all orphans, can be parents of
    these processes. A process may become an orphan during the look, so our own children are read last.
    """
    files = files or KeptFiles(0)
    found: dict[int, ProcessStates] = {}
    seen = set(spared)
    pending = {pid}
    while pending := pending - seen:
        while pending:
            process = pending.pop()
            seen.add(process)
            states, below = look_at(process, files)
            if states:
                found[process] = ProcessStates(process, states)
            pending |= below - seen
        pending = _below_us(spared, files, starter)
    return list(found.values())


def thread_states(family: Iterable[ProcessStates]) -> dict[int, str]:
    """The state of every thread of these processes, by its number."""
    return {tid: state for process in family for tid, state in process.states.items()}


def processor_seconds(pids: Iterable[int]) -> dict[int, float] | None:
    """The processor time of each process that still exists; None where the kernel keeps no such account."""
    try:
        time.clock_gettime(_clock(os.getpid()))
    except OSError:
        return None
    seconds = {}
    for pid in pids:
        with suppress(OSError):
            seconds[pid] = time.clock_gettime(_clock(pid))
    return seconds


def end_descendants(spared: Set[int]) -> None:
    """Kill and reap all processes below this one, without the trees of `spared`, until none is left.

    Whole groups are killed first: the kernel ends a group at once, however fast it forks. The caller holds
    Ctrl-C back meanwhile (flair_scoring/base/interrupts.py), or a second one could leave processes running.
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


def _below_us(spared: Set[int], files: KeptFiles, starter: int | None) -> set[int]:
    """The children of our threads; all processes below us where the kernel does not list children."""
    me = os.getpid()
    if not lists_children():
        return {process.pid for process in descendants(me, spared)}
    ours = thread_ids(me) if starter is None else {me, starter}
    return set().union(*(files.own_children(tid) for tid in ours))


def _clock(pid: int) -> int:
    return (~pid << 3) | _CLOCK_OF_PROCESS


def _read_process(pid: int) -> Process | None:
    """One process; None if it is gone, or belongs to somebody whose processes are hidden from us."""
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # from the third one of proc(5) on
    except OSError:
        return None
    if not fields:
        return None
    state = fields[0]
    parent, group, threads, pages = (int(fields[index]) for index in (1, 2, 17, 21))
    main_has_ended = state == b"Z" and threads > 1
    return Process(pid, parent, group, threads, resident_mib(pid) if main_has_ended else pages * _PAGE_MIB)
