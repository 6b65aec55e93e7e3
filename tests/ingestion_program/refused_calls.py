"""Attempts that the filter of system calls refuses, each with the error that it ends with."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress

from filtered import call, libc

from flair_ingestion.sandbox.system_calls import REFUSED, WEIGHED

COLUMN = ["x86_64", "aarch64"].index(platform.machine())
CLONE, CLOSE_RANGE, TKILL = (WEIGHED[name][COLUMN] or -1 for name in ("clone", "close_range", "tkill"))
CLONE_PARENT, CLONE_IN_THREAD = 0x8000, 0x10000 | 0x800 | 0x100  # THREAD | SIGHAND | VM
SIGCONT, WAIT_ALL = int(signal.SIGCONT), 0x40000000
FALLOC_PUNCH_HOLE, MADV_REMOVE, MADV_PAGEOUT = 3, 9, 21
FIOASYNC, FIOSETOWN, SIOCSPGRP = 0x5452, 0x8901, 0x8902
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NODUMP, FS_IOC_UNRESVSP = 0x80086601, 0x40086602, 0x40, 0x4030582B
F_SETOWN_EX, F_SET_RW_HINT, RWF_DONTCACHE = 15, 1036, 0x80


def number(name: str) -> int:
    found = REFUSED[name][COLUMN]
    assert found is not None
    return found


def a_file() -> int:
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(1 << 14))
        file.flush()
        return os.dup(file.fileno())


def a_memory() -> int:
    memory = os.memfd_create("x")
    os.write(memory, b"x" * (1 << 14))
    return memory


def control(command: int, argument: int | bytes, on: Callable[[], int] = lambda: os.pipe()[0]) -> object:
    return fcntl.fcntl(on(), command, argument)


def device_control(command: int, argument: int | bytes, on: Callable[[], int]) -> object:
    return fcntl.ioctl(on(), command, argument)


def a_buffer() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(64)


def a_socket() -> int:
    return socket.socketpair()[0].detach()


def make_timer() -> None:
    event = struct.pack("Pii", 0, SIGCONT, 0).ljust(64, b"\0")  # SIGEV_SIGNAL
    call(number("timer_create"), 1, event, ctypes.byref(ctypes.c_int()))


def notify_by_queue() -> None:
    name = f"/flair2-{os.getpid()}".encode()
    if (queue := libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)) == -1:
        raise OSError(ctypes.get_errno(), "mq_open")
    libc.mq_unlink(name)
    call(number("mq_notify"), queue, struct.pack("Pii", 0, SIGCONT, 0).ljust(64, b"\0"))


def clone(flags: int) -> None:
    if (pid := call(CLONE, flags, None, None, None, None)) == 0:
        os._exit(0)
    if not flags & CLONE_PARENT:
        os.waitpid(pid, WAIT_ALL)


def clone_beside() -> None:
    """Clone a sibling in a fork, so that the sibling is not left to this process."""
    if (pid := os.fork()) == 0:
        try:
            clone(CLONE_PARENT | signal.SIGCHLD)
        except OSError as error:
            os._exit(error.errno or 0)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def hide_descriptors() -> None:
    """Start a thread with a table of descriptors of its own."""
    stack = ctypes.create_string_buffer(1 << 16)
    top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~63)
    if libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, CLONE_IN_THREAD, None) == -1:
        raise OSError(ctypes.get_errno(), "clone")
    before = os.listdir("/proc/self/fd")
    os.pipe()
    hidden, *_ = (thread for thread in os.listdir("/proc/self/task") if int(thread) != os.getpid())
    assert len(os.listdir(f"/proc/self/task/{hidden}/fd")) <= len(before)


def ask_for_a_death_signal() -> None:
    libc.prctl(1, SIGCONT, 0, 0, 0)
    found = ctypes.c_int()
    assert libc.prctl(2, ctypes.byref(found), 0, 0, 0) == 0
    if not found.value:
        raise PermissionError(1, "without effect")


def hide_memory() -> None:
    if libc.prctl(4, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def queue_signal() -> None:
    if libc.sigqueue(os.getpid(), signal.SIGURG, None) != 0:
        raise OSError(ctypes.get_errno(), "sigqueue")


def queue_signal_to_thread() -> None:
    libc.pthread_self.restype = ctypes.c_ulong
    code = libc.pthread_sigqueue(ctypes.c_ulong(libc.pthread_self()), signal.SIGURG, None)
    if code:
        raise OSError(code, os.strerror(code))


def signal_by_descriptor() -> None:
    signal.pidfd_send_signal(os.pidfd_open(os.getpid()), signal.SIGURG)


def punch_by_ioctl() -> None:
    memory = a_memory()
    fcntl.ioctl(memory, FS_IOC_UNRESVSP, struct.pack("hhqqiI16x", 0, 0, 0, 4096, 0, 0))
    assert os.pread(memory, 1, 0) == b"\0"


def punch_by_fallocate() -> None:
    memory = a_memory()
    if libc.fallocate(memory, FALLOC_PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(4096)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")
    assert os.pread(memory, 1, 0) == b"\0"


def punch_by_advice() -> None:
    memory = a_memory()
    mmap.mmap(memory, 0).madvise(MADV_REMOVE)
    assert os.pread(memory, 1, 0) == b"\0"


def add_a_filter() -> None:
    libc.prctl(38, 1, 0, 0, 0)
    passes = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    call(number("seccomp"), 1, 0, struct.pack("HP", 1, ctypes.addressof(passes)))


def look_at_pages() -> None:
    pages = mmap.mmap(a_file(), 0)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    call(number("mincore"), ctypes.c_void_p(address), ctypes.c_size_t(4096), a_buffer())


def count_pages() -> None:
    call(number("cachestat"), a_file(), struct.pack("QQ", 0, 1 << 14), a_buffer(), 0)


def attach_memory_of_others() -> None:
    handle = libc.shmget(0, ctypes.c_size_t(4096), 0o1600)
    if handle == -1:
        raise OSError(ctypes.get_errno(), "shmget")
    libc.shmctl(handle, 0, None)


def mark_a_file() -> None:
    file, flags = a_file(), struct.pack("l", 0)
    with suppress(PermissionError):  # the file may have other flags, which may not be cleared
        flags = fcntl.ioctl(file, FS_IOC_GETFLAGS, flags)
    fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("l", struct.unpack("l", flags)[0] | FS_NODUMP))


# How each ends with the filter, and the attempt; without the filter all succeed
ATTEMPTS: dict[str, tuple[str, Callable[[], object]]] = {
    "a timer that signals": ("EPERM", make_timer),
    "an interval timer": ("EPERM", lambda: signal.setitimer(signal.ITIMER_REAL, 100)),
    "an alarm": ("EPERM", lambda: call(number("alarm"), 100) if COLUMN == 0 else make_timer()),
    "a message queue that signals": ("EPERM", notify_by_queue),
    "F_SETSIG": ("EPERM", lambda: control(fcntl.F_SETSIG, SIGCONT)),
    "F_SETOWN": ("EPERM", lambda: control(fcntl.F_SETOWN, os.getpid())),
    "F_SETOWN_EX": ("EPERM", lambda: control(F_SETOWN_EX, struct.pack("ii", 1, os.getppid()))),
    "F_SETLEASE": ("EPERM", lambda: control(fcntl.F_SETLEASE, fcntl.F_WRLCK, a_file)),
    "F_NOTIFY": ("EPERM", lambda: control(fcntl.F_NOTIFY, fcntl.DN_CREATE, lambda: os.open("/tmp", 0))),
    "F_SET_RW_HINT": ("EPERM", lambda: control(F_SET_RW_HINT, struct.pack("Q", 2), a_file)),
    "O_ASYNC": ("EPERM", lambda: control(fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)),
    "FIOASYNC": ("EPERM", lambda: device_control(FIOASYNC, struct.pack("i", 1), a_socket)),
    "FIOSETOWN": ("EPERM", lambda: device_control(FIOSETOWN, struct.pack("i", os.getpid()), a_socket)),
    "SIOCSPGRP": ("EPERM", lambda: device_control(SIOCSPGRP, struct.pack("i", os.getpid()), a_socket)),
    "a mark on a file": ("EPERM", mark_a_file),
    "a child that continues its parent": ("EPERM", lambda: clone(SIGCONT)),
    "a child of the parent's": ("EPERM", clone_beside),
    "a thread with hidden descriptors": ("EPERM", hide_descriptors),
    "hidden descriptors later": ("EPERM", lambda: call(CLOSE_RANGE, 1 << 20, 1 << 20, 2)),
    "a death signal": ("EPERM", ask_for_a_death_signal),
    "hidden memory": ("EPERM", hide_memory),
    "a queued signal": ("EPERM", queue_signal),
    "a signal queued to a thread": ("EPERM", queue_signal_to_thread),
    "a signal by descriptor": ("EPERM", signal_by_descriptor),
    "continue itself": ("EPERM", lambda: os.kill(os.getpid(), SIGCONT)),
    "continue its thread": ("EPERM", lambda: signal.pthread_kill(threading.get_ident(), SIGCONT)),
    "continue its thread, the old way": ("EPERM", lambda: call(TKILL, threading.get_native_id(), SIGCONT)),
    "asynchronous reading": ("EPERM", lambda: call(number("io_setup"), 1, ctypes.byref(ctypes.c_ulong()))),
    "a hole by fallocate": ("ENOTSUP", punch_by_fallocate),
    "a hole by madvise": ("EPERM", punch_by_advice),
    "a hole by ioctl": ("EPERM", punch_by_ioctl),
    "which pages are there": ("EPERM", look_at_pages),
    "how many pages are there": ("EPERM", count_pages),
    "reading without waiting": ("ENOTSUP", lambda: os.preadv(a_file(), [bytearray(4)], 0, os.RWF_NOWAIT)),
    "reading without a trace": ("ENOTSUP", lambda: os.preadv(a_file(), [bytearray(4)], 0, RWF_DONTCACHE)),
    "shared memory": ("EPERM", attach_memory_of_others),
    "the parent's locks": (
        "EPERM",
        lambda: call(number("get_robust_list"), os.getppid(), a_buffer(), a_buffer()),
    ),
    "another filter": ("EPERM", add_a_filter),
    "openat2": ("ENOSYS", lambda: call(437, -100, b"/", struct.pack("QQQ", 0, 0, 0x20), 24)),
}
