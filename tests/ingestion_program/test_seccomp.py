"""What the filter of system calls refuses: each attempt is made, and succeeds without the filter."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import pty
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filtered
import pytest
from filtered import call, libc
from refused_calls import ATTEMPTS, COLUMN, MADV_PAGEOUT, SIGCONT

from flair_ingestion.sandbox.system_calls import ABSENT, NEWEST, REFUSED, WITHOUT_EFFECT

TIOCSIG = 0x40045436
# The errors of kernels and file systems that lack a feature: then there is nothing to refuse
NOT_HERE = {"ENOSYS", "ENOTSUP", "ENOTTY"}


@pytest.fixture(autouse=True)
def open_to_its_children() -> None:
    """Let children look into this process, although other tests shield it as ingestion does."""
    filtered.libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


@pytest.mark.parametrize("what", ATTEMPTS)
def test_the_filter_refuses_what_succeeds_without_it(what: str) -> None:
    expected, attempt = ATTEMPTS[what]
    assert filtered.outcome(attempt, True) == expected
    without = filtered.outcome(attempt, False)
    assert without == "done" or without in NOT_HERE, without


@pytest.mark.parametrize(
    ("what", "command", "end"),
    [("TIOCSIG", TIOCSIG, 0), ("TIOCSWINSZ", termios.TIOCSWINSZ, 0), ("TIOCSCTTY", termios.TIOCSCTTY, 1)],
)
def test_terminals_send_no_signals(what: str, command: int, end: int) -> None:
    """Nor can a submission get a terminal of its own: the end of a terminal continues its processes."""
    ends = pty.openpty()

    def attempt() -> None:
        os.setsid()
        argument = {"TIOCSWINSZ": bytes(8), "TIOCSIG": int(signal.SIGQUIT)}.get(what, 0)
        fcntl.ioctl(ends[end], command, argument)

    try:
        assert filtered.outcome(attempt, True) == "EPERM"
        assert filtered.outcome(attempt, False) == "done"
    finally:
        for descriptor in ends:
            os.close(descriptor)


def test_every_call_of_the_lists_is_refused_without_effect_or_absent() -> None:
    """The arguments are none that a call accepts: without the filter, there are errors of many kinds."""

    def attempt() -> None:
        for table, expected in ((REFUSED, errno.EPERM), (WITHOUT_EFFECT, 0), (ABSENT, errno.ENOSYS)):
            for name, numbers in table.items():
                if (found := numbers[COLUMN]) is not None:
                    ctypes.set_errno(0)
                    result = libc.syscall(found, *[ctypes.c_long(-1)] * 6)
                    assert (name, result, ctypes.get_errno()) == (name, -1 if expected else 0, expected)

    assert filtered.outcome(attempt, True) == "done"


def test_calls_that_came_later_and_those_of_other_tables_do_not_exist() -> None:
    def attempt() -> None:
        # Two of them have the mark of x32
        later = [*range(NEWEST + 1, NEWEST + 100), 0x40000000, 0x40000027, 0x7FFFFFFF, -1]
        for found in later:
            with pytest.raises(OSError, match="Function not implemented"):
                call(found, 0, 0, 0, 0, 0, 0)

    assert filtered.outcome(attempt, True) == "done"


@pytest.fixture
def victim() -> Iterator[int]:
    """Another process of this user."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


SLOWDOWNS: dict[str, Callable[[int], object]] = {
    "setpriority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "sched_setscheduler": lambda pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
    "sched_setaffinity": lambda pid: os.sched_setaffinity(pid, {max(os.sched_getaffinity(pid))}),
    "sched_setattr": lambda pid: call(WITHOUT_EFFECT["sched_setattr"][COLUMN] or -1, pid, IDLE, 0),
    "ioprio_set": lambda pid: call(WITHOUT_EFFECT["ioprio_set"][COLUMN] or -1, 1, pid, 3 << 13),
}
IDLE = struct.pack("IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0)  # struct sched_attr of SCHED_IDLE


def served(pid: int) -> tuple[object, ...]:
    """How the kernel schedules a process."""
    ioprio_get = {"x86_64": 252, "aarch64": 31}[platform.machine()]
    nice, policy = os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)
    return nice, policy, os.sched_getaffinity(pid), call(ioprio_get, 1, pid)


@pytest.mark.parametrize("name", SLOWDOWNS)
def test_nobody_is_slowed_down_and_who_asks_is_told_that_all_went_well(name: str, victim: int) -> None:
    before = served(victim)
    assert filtered.outcome(lambda: SLOWDOWNS[name](victim), True) == "done"
    assert served(victim) == before
    assert filtered.outcome(lambda: SLOWDOWNS[name](victim), False) == "done"
    if name != "sched_setaffinity" or len(before[2]) > 1:  # type: ignore[arg-type]
        assert served(victim) != before


def page_out(file: int) -> None:
    pages = mmap.mmap(file, 0, mmap.MAP_PRIVATE)
    assert not any(pages[:])
    pages.madvise(MADV_PAGEOUT)


EVICTIONS: dict[str, Callable[[int], object]] = {
    "posix_fadvise": lambda file: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED),
    "madvise": page_out,
}


def is_cached(file: int) -> bool:
    """Whether the file's first page is in memory, without reading it, which would fetch it."""
    pages, found = mmap.mmap(file, 0, mmap.MAP_PRIVATE), ctypes.create_string_buffer(8)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    call(REFUSED["mincore"][COLUMN] or -1, ctypes.c_void_p(address), ctypes.c_size_t(4096), found)
    return bool(found.raw[0] & 1)


@pytest.mark.parametrize("name", EVICTIONS)
def test_the_kernels_memory_of_files_keeps_no_message_for_the_next_attempt(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 14))
    file = os.open(tmp_path / "file", os.O_RDONLY)
    os.fsync(file)
    assert is_cached(file)
    assert filtered.outcome(lambda: EVICTIONS[name](file), True) == "done"
    assert is_cached(file)
    for _ in range(100):  # the kernel may keep a page that was in use a moment ago
        assert filtered.outcome(lambda: EVICTIONS[name](file), False) == "done"
        if not is_cached(file):
            break
        time.sleep(0.05)
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    assert not is_cached(file) or kind.stdout == "tmpfs\n"
    os.close(file)


def test_where_landlock_does_not_see_to_it_only_the_submission_can_be_signalled() -> None:
    def attempt() -> None:
        filtered.install(os.getpid())
        os.kill(os.getpid(), 0)
        os.kill(0, 0)
        signal.raise_signal(signal.SIGURG)
        for pid in (os.getppid(), -1, -os.getpgrp()):
            with pytest.raises(PermissionError):
                os.kill(pid, 0)
        for action in (lambda: os.kill(0, SIGCONT), lambda: signal.raise_signal(signal.SIGCONT)):
            with pytest.raises(PermissionError):
                action()

    assert filtered.outcome(attempt, False) == "done"


@pytest.mark.parametrize(
    "family", [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK, 38]
)
def test_no_family_of_sockets_but_the_local_one_exists(family: int) -> None:
    def attempt() -> None:
        for kind in (1, 2, 3, 5):
            for make in (socket.socket, socket.socketpair):
                with pytest.raises(PermissionError):
                    make(family, kind)

    assert filtered.outcome(attempt, True) == "done"


def test_calls_of_another_architecture_kill() -> None:
    if platform.machine() == "x86_64":  # getpid of 32-bit programs, in machine code
        code = (
            "import mmap\n"
            "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
            "page.write(bytes.fromhex('b814000000cd80c3'))\n"
            "print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())\n"
        )
        # SIGSEGV where the kernel knows no 32-bit programs
        assert filtered.run(code).returncode in (-signal.SIGSYS, -signal.SIGSEGV)
    assert filtered.run("").returncode == 0


def leave_a_zombie() -> None:
    """Whether a child that ends stays a zombie although its end is ignored."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)  # raises ChildProcessError if it has left no zombie


def test_no_child_vanishes_without_a_trace_of_its_processor_time() -> None:
    assert filtered.outcome(leave_a_zombie, True) == "done"
    assert filtered.outcome(leave_a_zombie, False) == "ECHILD"
    assert filtered.outcome(lambda: signal.getsignal(signal.SIGCHLD), True) == "done"


def map_huge_pages() -> None:
    mmap.mmap(-1, 1 << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000).close()  # MAP_HUGETLB


def test_no_memory_comes_from_pages_that_count_for_nobody() -> None:
    attempt = lambda: os.close(os.memfd_create("huge", os.MFD_HUGETLB))  # noqa: E731
    assert filtered.outcome(attempt, True) == "EINVAL"
    assert filtered.outcome(attempt, False) == "done"
    assert filtered.outcome(map_huge_pages, True) == "ENOMEM"  # as on a machine that has set none aside
    assert filtered.outcome(lambda: mmap.mmap(-1, 1 << 21).close(), True) == "done"
