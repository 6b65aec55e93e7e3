"""Runs an action in a fork, or code in a new interpreter, with the filter of system calls."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable

from flair_ingestion.sandbox import entering, seccomp

libc = ctypes.CDLL(None, use_errno=True)


def install(only_signalled: int | None = None) -> None:
    """Install the filter in this process, from which it cannot be removed."""
    program = seccomp.system_call_filter(only_signalled)
    assert program
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    entering.install_filter(libc, program)


def outcome(action: Callable[[], object], filtered: bool) -> str:
    """What becomes of `action` in a fork: "done", the name of its error, or "died" with its wait status."""
    told, tell = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            if filtered:
                install()
            action()
            answer = "done"
        except OSError as error:
            answer = errno.errorcode.get(error.errno or 0, repr(error))
        except BaseException as error:
            answer = repr(error)
        os.write(tell, answer.encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answers:
        answer = answers.read()
    status = os.waitpid(pid, 0)[1]
    return answer or f"died: {status}"


def call(number: int, *arguments: object) -> int:
    """Make a system call; raises OSError with its errno."""
    result = int(libc.syscall(number, *arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter under the filter; `libc` and `os` are imported."""
    program = seccomp.system_call_filter(None)
    assert program
    prologue = (
        "import ctypes, os, runpy\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0\n"
        f"entering = runpy.run_path({entering.__file__!r})\n"
        f"entering['install_filter'](libc, bytes.fromhex({program.hex()!r}))\n"
    )
    return subprocess.run([sys.executable, "-c", prologue + code], capture_output=True, text=True)


def drop_all_capabilities() -> None:
    """Drop what a container drops that is started with --cap-drop ALL."""
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    assert libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)) == 0
