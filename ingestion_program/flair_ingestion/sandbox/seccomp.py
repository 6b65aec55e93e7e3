"""The filter of system calls that a child installs. It closes what every version of Landlock leaves open.

The filter is a program for the kernel's classic BPF machine,
https://docs.kernel.org/userspace-api/seccomp_filter.html. It refuses what system_calls.py lists and lets the
rest pass, since torch and CUDA use many calls. Of a call with many commands (fcntl, ioctl, prctl) only the
commands that are known to be harmless pass: a command of a later kernel must not wake a submission.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from collections.abc import Mapping, Sequence

from flair_ingestion.sandbox.system_calls import ABSENT, MACHINES, NEWEST, REFUSED, WEIGHED, WITHOUT_EFFECT

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_LOAD, _AND, _SHIFT, _EQUALS, _AT_LEAST, _JUMP, _RETURN = 0x20, 0x54, 0x74, 0x15, 0x35, 0x05, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_FARTHEST = 255  # steps that a condition can skip
_ANY_BIT = 0xFFFFFFFF
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_REFUSE, _NOTHING, _ABSENT = _ERRNO | errno.EPERM, _ERRNO, _ERRNO | errno.ENOSYS
# The answers of a kernel or file system that lacks a feature. Honest code then takes another way
_UNKNOWN, _UNSUPPORTED = _ERRNO | errno.EINVAL, _ERRNO | errno.EOPNOTSUPP

_SIGCHLD, _SIGCONT = 17, 18
_STREAM, _SEQPACKET, _TYPE_OF_SOCKET = 1, 5, 0xF  # datagrams could be sent anywhere
_NAMESPACES, _EXIT_SIGNAL = 0x7E020000, 0xFF  # masks of the flags of clone
_CLONE_FILES, _CLONE_PARENT, _CLONE_THREAD = 0x400, 0x8000, 0x10000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_MM, _PR_SCHED_CORE = 1, 4, 22, 35, 62
_PR_NEWEST, _PR_SET_VMA = 79, 0x53564D41  # with the latter, C libraries give names to memory
# Commands that pass: copies, flags, locks, pipes, seals. Those that send signals do not pass (F_SETSIG,
# F_SETOWN, F_SETLEASE, F_NOTIFY), nor do hints on a file's use (F_SET_RW_HINT), which stay with the file.
_FCNTL, _F_SETFL, _O_ASYNC = (*range(8), 36, 37, 38, 1027, 1028, *range(1030, 1035)), 4, 0x2000
# Refused families. Of terminals, consoles and sockets: they send signals and push input (TIOCSTI, FIOASYNC,
# FIOSETOWN, SIOCSPGRP). Of files: they make holes in memory (FS_IOC_UNRESVSP) and marks that last
# (FS_IOC_SETFLAGS). The last one belongs to userfaultfd.
_IOCTL_FAMILIES = (0x54, 0x4B, 0x56, 0x89, 0x58, 0x66, 0x76, 0x94, 0xAA)
# Commands of these families that pass: TCGETS, TIOCOUTQ, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX,
# FIOQSIZE, TCGETS2, FICLONE, FICLONERANGE
_IOCTL = (0x5401, 0x5411, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x5460, 0x802C542A, 0x40049409, 0x4020940D)
# To remove pages stalls whoever writes to them. To give back pages of a file is a message to the next attempt
_MADV_REMOVE, _MADV_COLD, _MADV_PAGEOUT = 9, 20, 21
# Flags that pass. RWF_NOWAIT tells what is in memory, RWF_DONTCACHE evicts it; later flags are not known yet
_RWF = 0x77
_MAP_HUGETLB, _MFD_HUGETLB = 0x40000, 4
_CLOSE_RANGE_UNSHARE = 2  # a thread would get descriptors of its own, which the parent does not see

_Step = tuple[int, int, int, int]  # operation, steps to skip if true, if false, operand


def system_call_filter(only_signalled: int | None, machine: str | None = None) -> bytes | None:
    """The program, 8 bytes per step; None for a machine whose numbers of system calls are not known here.

    `only_signalled` is the one process that may get signals; None where Landlock restricts signals already.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return None
    column = MACHINES.index(machine)
    verdicts: dict[int | None, list[_Step]] = {}
    for table, verdict in ((REFUSED, _REFUSE), (WITHOUT_EFFECT, _NOTHING), (ABSENT, _ABSENT)):
        verdicts |= {numbers[column]: [_returns(verdict)] for numbers in table.values()}
    weighed = _weighed_by_arguments() | _signals(only_signalled)
    verdicts |= {WEIGHED[name][column]: [*steps, _returns(_ALLOW)] for name, steps in weighed.items()}
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUALS, 1, 0, _ARCHITECTURES[machine]),
        _returns(_KILL),
        (_LOAD, 0, 0, _NUMBER),
        *_search(_ranges({number: verdict for number, verdict in verdicts.items() if number is not None})),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _weighed_by_arguments() -> dict[str, list[_Step]]:
    """For each call that is judged by its arguments, the steps that may refuse it; otherwise it passes."""
    sockets = _unless(0, [int(socket.AF_UNIX)]) + _unless(1, [_STREAM, _SEQPACKET], _TYPE_OF_SOCKET)
    threads = [0, _CLONE_FILES, _CLONE_FILES | _CLONE_THREAD]  # no thread with descriptors of its own
    flags = _unless(5, [0], _ANY_BIT & ~_RWF, _UNSUPPORTED)
    return {
        "socket": sockets,
        "socketpair": sockets,
        "clone": [
            *_unless(0, [0], _NAMESPACES | _CLONE_PARENT),
            *_unless(0, threads, _CLONE_FILES | _CLONE_THREAD),
            *_unless(0, [0, _SIGCHLD], _EXIT_SIGNAL),
        ],
        "prctl": [
            *_if(0, [_PR_SET_PDEATHSIG], _NOTHING),  # torch's workers ask for this signal
            *_if(0, [_PR_SET_DUMPABLE, _PR_SET_MM]),  # the parent must see its memory
            *_if(0, [_PR_SET_SECCOMP, _PR_SCHED_CORE]),  # the latter keeps others off a core
            *_if(0, [_PR_SET_VMA], _ALLOW),
            *_argument(0),
            *[(_AT_LEAST, 0, 1, _PR_NEWEST + 1), _returns(_UNKNOWN)],
        ],
        "prlimit64": _unless(0, [0]),  # only limits of the calling process
        "fcntl": [*_unless(1, _FCNTL), *_when(1, _F_SETFL, _unless(2, [0], _O_ASYNC))],
        "ioctl": [
            *_if(1, _IOCTL, _ALLOW),
            *[*_argument(1), (_SHIFT, 0, 0, 8), (_AND, 0, 0, 0xFF)],
            *_tests(_IOCTL_FAMILIES, _REFUSE),
        ],
        "madvise": [*_if(2, [_MADV_REMOVE]), *_if(2, [_MADV_COLD, _MADV_PAGEOUT], _NOTHING)],
        "fallocate": _unless(1, [0], _ANY_BIT, _UNSUPPORTED),  # to reserve space; the other modes punch holes
        # if a process ignored the end of its children, their processor time would vanish
        "rt_sigaction": _when(0, _SIGCHLD, _if_given(1, _NOTHING)),
        # huge pages that a machine has set aside are counted for no process
        "mmap": _unless(3, [0], _MAP_HUGETLB, _ERRNO | errno.ENOMEM),
        "memfd_create": _unless(1, [0], _MFD_HUGETLB, _UNKNOWN),
        "preadv2": flags,
        "pwritev2": flags,
        "close_range": _unless(2, [0], _CLOSE_RANGE_UNSHARE),
    }


def _signals(only_signalled: int | None) -> dict[str, list[_Step]]:
    """The steps for calls that send signals. SIGCONT is always refused: it would undo a stop just sent."""
    if only_signalled is None:
        return {name: _if(index, [_SIGCONT]) for name, index in (("kill", 1), ("tkill", 1), ("tgkill", 2))}
    addressed = _unless(0, [0, only_signalled])
    return {
        "kill": addressed + _if(1, [_SIGCONT]),
        "tkill": [_returns(_REFUSE)],
        "tgkill": addressed + _if(2, [_SIGCONT]),
    }


def _ranges(verdicts: Mapping[int, list[_Step]]) -> list[tuple[int, list[_Step]]]:
    """The verdicts as ranges of call numbers, without gaps, each with its first number; neighbours differ."""
    starts = {0: [_returns(_ALLOW)], NEWEST + 1: [_returns(_ABSENT)]}  # these include the calls of x32
    for number in sorted(verdicts):
        starts.setdefault(number + 1, [_returns(_ALLOW)])
        starts[number] = verdicts[number]
    ranges: list[tuple[int, list[_Step]]] = []
    for start, verdict in sorted(starts.items()):
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((start, verdict))
    return ranges


def _search(ranges: Sequence[tuple[int, list[_Step]]]) -> list[_Step]:
    """Steps that find a number's range by halving: every call of a submission pays for each step."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= _FARTHEST:
        return [(_AT_LEAST, len(below), 0, pivot), *below, *above]
    return [(_AT_LEAST, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def _returns(verdict: int) -> _Step:
    return (_RETURN, 0, 0, verdict)


def _argument(index: int, mask: int = _ANY_BIT) -> list[_Step]:
    """Load the lower half of an argument; of the arguments judged here, the kernel reads no more."""
    masked = [] if mask == _ANY_BIT else [(_AND, 0, 0, mask)]
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * index), *masked]


def _tests(values: Sequence[int], verdict: int) -> list[_Step]:
    """Steps that return the verdict if the loaded value is one of `values`."""
    last = len(values) - 1
    return [(_EQUALS, last - at, int(at == last), value) for at, value in enumerate(values)] + [
        _returns(verdict)
    ]


def _if(index: int, values: Sequence[int], verdict: int = _REFUSE) -> list[_Step]:
    """Steps that return the verdict if the argument is one of `values`."""
    return [*_argument(index), *_tests(values, verdict)]


def _unless(index: int, values: Sequence[int], mask: int = _ANY_BIT, verdict: int = _REFUSE) -> list[_Step]:
    """Steps that return the verdict unless the bits `mask` of the argument are one of `values`."""
    tests = [(_EQUALS, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [*_argument(index, mask), *tests, _returns(verdict)]


def _if_given(index: int, verdict: int) -> list[_Step]:
    """Steps that return the verdict if the argument, an address, is not null."""
    offset = _ARGUMENTS + 8 * index
    low, high = (_LOAD, 0, 0, offset), (_LOAD, 0, 0, offset + 4)
    return [low, (_EQUALS, 0, 2, 0), high, (_EQUALS, 1, 0, 0), _returns(verdict)]


def _when(index: int, value: int, steps: list[_Step]) -> list[_Step]:
    """The given steps, taken only if the argument has this value."""
    return [*_argument(index), (_EQUALS, 0, len(steps), value), *steps]
