"""Entering the sandbox: a process gives up, once and for all, what a submission does not need.

runner.py and attempts.py load this file by its path, so it imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # system calls, the same on all machines
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2


def enter_sandbox(
    rlimits: dict[str, int], landlock: dict[str, Any] | None, call_filter: str | None
) -> dict[str, bool]:
    """Give up what `policy.orders` tells, in the order in which each step is still allowed.

    Returns what holds from then on: `own_session`, `no_new_privileges`, `root_hidden` (the folder / cannot be
    listed) and `network_refused`.
    """
    import resource  # here: Windows has no such module, and imports this file to say that it cannot run it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the filter of system calls forbids to change this later
    with suppress(OSError):  # where memory runs out, the kernel ends this process and not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name, value in rlimits.items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    report = {
        "own_session": os.getsid(0) == os.getpid(),
        "no_new_privileges": libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
    }
    if landlock:
        enter_landlock(libc.syscall, bytes.fromhex(landlock["ruleset"]), landlock["rules"])
    drop_capabilities(libc)
    if call_filter:
        install_filter(libc, bytes.fromhex(call_filter))
    return report | {
        "root_hidden": refused(os.listdir, "/"),
        "network_refused": refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM),
    }


def enter_landlock(syscall: Any, ruleset: bytes, rules: list[tuple[str, int]]) -> None:
    """Allow the rights in `rules`, by path, and nothing else that `ruleset` covers."""
    handle = syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    for path, rights in rules:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        syscall(_LANDLOCK_ADD, handle, 1, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    syscall(_LANDLOCK_RESTRICT, handle, 0)
    os.close(handle)


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep at most the capability to read files of other users: the interpreter may be another user's."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    for kept in (_CAP_DAC_READ_SEARCH, 0):
        if libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) == 0:
            return


def install_filter(libc: ctypes.CDLL, program: bytes) -> None:
    """Let the kernel judge every later system call by `program`, which seccomp.py has written."""
    steps = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)


def refused(action: Any, *arguments: Any) -> bool:
    """Whether this process lacks the permission to do something."""
    try:
        action(*arguments)
    except PermissionError:
        return True
    except OSError:
        pass
    return False
