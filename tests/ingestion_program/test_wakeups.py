"""Stopped processes that have arranged to be continued: they wake, unless the filter prevents it."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import filtered
import pytest
from filtered import call, libc
from refused_calls import CLONE, SIGCONT

PR_SET_PDEATHSIG = 1

Tick = Callable[[], None]
Arrange = Callable[[Tick], int]  # arranges the waking; returns the number of another process that it needs


class Sleeper:
    """A process in a group of its own that counts while it is awake."""

    def __init__(self, arrange: Arrange, with_filter: bool) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self.log, self._written = os.pipe()
        if (pid := os.fork()) == 0:
            with suppress(BaseException):
                self._sleep_badly(arrange, with_filter)
            os._exit(1)
        self.pid = pid
        while self.count == 0:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the process has ended"
            time.sleep(0.01)

    @property
    def count(self) -> int:
        return int(struct.unpack_from("q", self._memory)[0])

    @property
    def other(self) -> int:
        return int(struct.unpack_from("q", self._memory, 8)[0])

    def stop(self, patience: float = 60) -> None:
        """Stop the group, and wait until it stands still, which takes longer on a loaded machine."""
        os.killpg(self.pid, signal.SIGSTOP)
        end = time.monotonic() + patience
        while set(self._states()) - {"T", "Z"} and time.monotonic() < end:
            time.sleep(0.01)

    def wakes(self, patience: float) -> bool:
        """Whether the process counts again within so many seconds."""
        before, end = self.count, time.monotonic() + patience
        while self.count == before and time.monotonic() < end:
            time.sleep(0.01)
        return self.count != before

    def end(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        for descriptor in (self.log, self._written):
            os.close(descriptor)

    def _states(self) -> Iterator[str]:
        for thread in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
            with suppress(OSError):
                state, _, group = thread.read_text().rpartition(") ")[2].split()[:3]
                if int(group) == self.pid:
                    yield state

    def _sleep_badly(self, arrange: Arrange, with_filter: bool) -> None:
        os.setsid()
        os.dup2(self._written, 1)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if with_filter:
            filtered.install()
        struct.pack_into("q", self._memory, 8, arrange(self._tick))
        while True:
            self._tick()

    def _tick(self) -> None:
        struct.pack_into("q", self._memory, 0, self.count + 1)


@pytest.fixture
def start() -> Iterator[Callable[[Arrange, bool], Sleeper]]:
    """Starts sleepers, and ends them."""
    started: list[Sleeper] = []

    def make(arrange: Arrange, with_filter: bool) -> Sleeper:
        started.append(Sleeper(arrange, with_filter))
        return started[-1]

    yield make
    for sleeper in started:
        sleeper.end()


def set_timers(tick: Tick) -> int:
    """Set many timers for a minute: a stop deletes a waiting signal with its timer, even a periodic one."""
    event = struct.pack("Pii", 0, SIGCONT, 0).ljust(64, b"\0")
    for tenths in range(1, 600):
        timer = ctypes.c_void_p()
        if libc.timer_create(1, event, ctypes.byref(timer)) == 0:
            when = struct.pack("4q", 0, 0, tenths // 10, tenths % 10 * 10**8)
            assert libc.timer_settime(timer, 0, when, None) == 0
    return 0


def let_the_log_signal(tick: Tick) -> int:
    """Fill the pipe that the parent reads: when the parent reads it, the pipe sends a signal."""
    with suppress(PermissionError):
        fcntl.fcntl(1, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(1, fcntl.F_SETSIG, SIGCONT)
        fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.set_blocking(1, False)
    with suppress(BlockingIOError):
        while True:
            os.write(1, bytes(1 << 12))
    return 0


def let_a_child_end(tick: Tick) -> int:
    """Start a child whose end sends the signal that its parent has chosen."""
    try:
        pid = call(CLONE, SIGCONT, None, None, None, None)
    except PermissionError:
        pid = os.fork()
    while pid == 0:
        signal.pause()
    return pid


def let_a_parent_end(tick: Tick) -> int:
    """Count in a child, which gets a signal when its parent dies."""
    parent = os.getpid()
    while os.fork():
        signal.pause()
    libc.prctl(PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0)
    return parent


def read_log(sleeper: Sleeper) -> None:
    os.read(sleeper.log, 1 << 16)


def kill_other(sleeper: Sleeper) -> None:
    os.kill(sleeper.other, signal.SIGKILL)


def nothing(sleeper: Sleeper) -> None:
    pass


WAYS: dict[str, tuple[Arrange, Callable[[Sleeper], None]]] = {
    "a timer": (set_timers, nothing),
    "a descriptor": (let_the_log_signal, read_log),
    "a child's exit signal": (let_a_child_end, kill_other),
    "a death signal": (let_a_parent_end, kill_other),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_stands_still_cannot_be_continued_by_what_it_has_arranged(
    way: str, start: Callable[[Arrange, bool], Sleeper]
) -> None:
    arrange, trigger = WAYS[way]
    for with_filter in (False, True):
        sleeper = start(arrange, with_filter)
        sleeper.stop(60 if with_filter else 0.2)
        trigger(sleeper)
        assert sleeper.wakes(0.5 if with_filter else 60) is not with_filter


def continue_oneself(tick: Tick) -> int:
    """Let a thread send SIGCONT, while the thread that gets the stop waits for their only processor."""

    def work() -> None:
        while True:
            with suppress(PermissionError):
                os.kill(os.getpid(), SIGCONT)
            tick()

    threading.Thread(target=work).start()
    while True:
        time.sleep(1000)


def test_no_stop_is_undone_by_continuing_oneself(start: Callable[[Arrange, bool], Sleeper]) -> None:
    free, caught = start(continue_oneself, False), start(continue_oneself, True)
    for _ in range(30):  # most stops are undone
        free.stop(0.2)
        if free.wakes(0.5):
            break
        os.killpg(free.pid, signal.SIGCONT)
        assert free.wakes(60)  # a process that does not run yet cannot undo the next stop
    else:
        pytest.fail("no stop was undone without the filter: this test shows nothing")
    for _ in range(10):
        caught.stop()
        assert not caught.wakes(0.1)
        os.killpg(caught.pid, signal.SIGCONT)
        assert caught.wakes(60)
