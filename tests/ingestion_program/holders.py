"""Processes that hold a known thing and wait, for tests of what their parent sees of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NOBODY = 65534
PROLOGUE = """
import ctypes, mmap, os, platform, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]

def ready():
    print(flush=True)
    signal.pause()

def end_main_thread():  # only this thread ends; another one is ready then
    threading.Thread(target=ready).start()
    libc.syscall(EXIT, 0)

def clone(flags):  # a child that waits, on a stack of its own
    stack = ctypes.create_string_buffer(1 << 16)
    stacks.append(stack)
    top = (ctypes.addressof(stack) + len(stack)) & ~15
    return libc.clone(libc.pause, ctypes.c_void_p(top), flags | signal.SIGCHLD, None)

def map_part(descriptor, size):  # unlike mmap.mmap, which keeps a descriptor
    libc.mmap.restype = ctypes.c_void_p
    return libc.mmap(None, ctypes.c_size_t(size), 3, mmap.MAP_SHARED, descriptor, ctypes.c_long(0))

stacks = []
"""


@contextmanager
def holder(code: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own that has run `code` up to `ready` or its end, and waits."""
    mine = os.access(sys.executable, os.X_OK)  # may be false for an ordinary user
    python = sys.executable if mine else "/usr/bin/python3"
    command = [python, "-c", f"{PROLOGUE}\n{code}\nready()", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, **options)
    assert process.stdout
    try:
        assert process.stdout.readline() == b"\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def has_ended(pid: int | str) -> bool:
    """Whether a process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for_state(pid: int, tid: int, states: str) -> None:
    """Wait until a thread is in one of these states of proc(5)."""
    while Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()[0] not in states:
        time.sleep(0.001)


def as_ordinary_user(action: Callable[[], Any]) -> Any:
    """What `action` returns, through JSON, when a user without privileges runs it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with suppress(PermissionError):
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(action()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as stream:
        told = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(told)
