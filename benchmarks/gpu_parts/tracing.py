"""A small tracer: which system calls of a process are refused, and which are made to do nothing.

refusals.py starts it. The tracer reads the number of a process from its input and says "tracing". It follows
the process with all its threads and children until they have ended, then prints as JSON how often each call
was refused. It needs Linux on x86_64 or aarch64; see ptrace(2).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import struct
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from flair_ingestion.sandbox.system_calls import ABSENT, MACHINES, REFUSED, WEIGHED, WITHOUT_EFFECT

_SYSCALL, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = 24, 0x4206, 0x4207, 0x4208, 0x420E
_OPTIONS = 1 | 2 | 4 | 8 | 16  # tells system calls from signals; follows fork, vfork, clone and exec
_WAIT_ALL = 0x40000000
_SYSTEM_CALL_STOP, _STOP_EVENT = signal.SIGTRAP | 0x80, 128
_ENTRY, _EXIT = 1, 2
# Entry or exit, architecture, stack; then at entry a number and six arguments, at exit a value
_INFO = struct.Struct("=BxxxI8xQ7q")
_REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS}
_PATH_BYTES = 256
# The call's numbers on x86_64 and aarch64, and the index of the argument that holds a path
_PATHS = {
    **{"open": (2, None, 0), "stat": (4, None, 0), "lstat": (6, None, 0), "access": (21, None, 0)},
    **{"execve": (59, 221, 0), "mkdir": (83, None, 0), "unlink": (87, None, 0), "readlink": (89, None, 0)},
    **{"mknod": (133, None, 0), "openat": (257, 56, 1), "mkdirat": (258, 34, 1), "mknodat": (259, 33, 1)},
    **{"newfstatat": (262, 79, 1), "unlinkat": (263, 35, 1), "readlinkat": (267, 78, 1)},
    **{"faccessat": (269, 48, 1), "statx": (332, 291, 1), "faccessat2": (439, 439, 1)},
}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

Call = tuple[int, tuple[int, ...]]  # number and arguments


def main() -> None:
    """Follow the process; where this machine does not allow that, exit with 1 and a sentence."""
    root = int(input())
    try:
        _ptrace(_SEIZE, root, 0, _OPTIONS)
        _ptrace(_INTERRUPT, root)
    except OSError as error:
        sys.exit(f"tracing is not possible here: {error}")
    print("tracing", flush=True)
    print(json.dumps(follow()))


def follow() -> dict[str, int]:
    """Follow until no traced process is left; return how often each call was refused or had no effect."""
    names, without_effect = _call_names(), _numbers(WITHOUT_EFFECT)
    entered: dict[int, Call] = {}
    counts: Counter[str] = Counter()
    while True:
        try:
            pid, status = os.waitpid(-1, _WAIT_ALL)
        except ChildProcessError:
            return dict(counts)
        if not os.WIFSTOPPED(status):
            entered.pop(pid, None)
            continue
        stop, event = os.WSTOPSIG(status), status >> 16
        if stop == _SYSTEM_CALL_STOP:
            with suppress(ProcessLookupError):
                what, call, value = _read_call(pid)
                if what == _ENTRY:
                    entered[pid] = call
                    if call[0] in without_effect:
                        counts[f"{without_effect[call[0]]}: no effect"] += 1
                elif what == _EXIT and pid in entered and -value in _REFUSALS:
                    counts[_describe(pid, entered[pid], -value, names)] += 1
        with suppress(ProcessLookupError):  # the process has just been killed
            if event == _STOP_EVENT and stop != signal.SIGTRAP:
                _ptrace(_LISTEN, pid)  # another process has stopped it
            else:
                own = event or stop in (signal.SIGTRAP, _SYSTEM_CALL_STOP)
                _ptrace(_SYSCALL, pid, 0, 0 if own else stop)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    value = _libc.ptrace(request, pid, address, data)
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


def _read_call(pid: int) -> tuple[int, Call, int]:
    """Entry or exit; the call (known at entry only); the value that it returns (known at exit only)."""
    buffer = ctypes.create_string_buffer(_INFO.size)
    _ptrace(_GET_SYSCALL_INFO, pid, _INFO.size, ctypes.addressof(buffer))
    what, _, _, first, *others = _INFO.unpack(buffer.raw)
    if what == _ENTRY:
        return what, (first, tuple(argument % 2**64 for argument in others[:6])), 0
    return what, (-1, ()), first


def _describe(pid: int, call: Call, error: int, names: dict[int, str]) -> str:
    """The call's name and error, with the path, the device and request, or the command that it was given."""
    number, arguments = call
    name = names.get(number, f"system call {number}")
    if name in _PATHS:
        what = _read_path(pid, arguments[_PATHS[name][2]])
    elif name == "ioctl":
        what = f"{arguments[1]:#x} on {_read_link(pid, arguments[0])}"
    elif name in WEIGHED:
        what = ", ".join(f"{argument:#x}" for argument in arguments[:2])
    else:
        return f"{name}: {errno.errorcode[error]}"
    return f"{name} {what}: {errno.errorcode[error]}"


def _read_path(pid: int, address: int) -> str:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(_PATH_BYTES).split(b"\0")[0].decode(errors="replace")
    except (OSError, OverflowError):
        return "?"


def _read_link(pid: int, descriptor: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
    except OSError:
        return "?"


def _numbers(table: dict[str, tuple[int | None, int | None]]) -> dict[int, str]:
    column = MACHINES.index(platform.machine())
    return {number: name for name, both in table.items() if (number := both[column]) is not None}


def _call_names() -> dict[int, str]:
    paths = {name: numbers[:2] for name, numbers in _PATHS.items()}
    return _numbers(REFUSED | WITHOUT_EFFECT | ABSENT | WEIGHED | paths)


if __name__ == "__main__":
    main()
