"""The filter of system calls that a child installs: what Landlock leaves open.

A program for the kernel's classic BPF machine, https://docs.kernel.org/userspace-api/seccomp_filter.html. It
lists what is refused, and lets the rest pass: torch and CUDA use many calls, and more with each version.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from collections.abc import Sequence

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, AUDIT_ARCH_*
_X32 = 0x40000000  # this bit and those above mark calls of another table
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_REFUSE, _NOTHING, _ABSENT = _ERRNO | errno.EPERM, _ERRNO, _ERRNO | errno.ENOSYS
_LOAD, _AND, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ANY_BIT = 0xFFFFFFFF
_TYPE_OF_SOCKET, _NAMESPACES, _PR_SET_DUMPABLE = 0xF, 0x7E020000, 4

# Numbers on x86_64 and aarch64; None where a machine has no such call
_Numbers = tuple[int | None, int | None]
REFUSED: dict[str, _Numbers] = {
    # to other programs on this machine: no daemon is asked to do what a submission may not
    "connect": (42, 203),
    # other processes' memory, descriptors, threads
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    # large parts of the kernel that no model needs; io_uring would also do what is refused elsewhere
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    # what outlives a process and is not a file: the next run would find it
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    # which files others open: names of patches
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # the machine itself
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lookup_dcookie": (212, 18),
}
# Honest code does this to files that it copies and to workers: it is told that all went well. Landlock does
# not cover the first lines; without the last two, all processes stay in the group that is killed at once.
WITHOUT_EFFECT: dict[str, _Numbers] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "setsid": (112, 157),
    "setpgid": (109, 154),
}
_SOCKET, _SOCKETPAIR, _CLONE, _CLONE3 = (41, 198), (53, 199), (56, 220), (435, 435)
_PRCTL, _PRLIMIT = (157, 167), (302, 261)
_KILL_CALLS: tuple[_Numbers, ...] = ((62, 129), (234, 131), (297, 240))  # kill, tgkill, rt_tgsigqueueinfo
_SIGNAL_CALLS: tuple[_Numbers, ...] = ((200, 130), (129, 138))  # tkill, rt_sigqueueinfo

_Step = tuple[int, int, int, int]  # operation, steps to skip if true, if false, operand


def system_call_filter(only_signalled: int | None, machine: str | None = None) -> bytes | None:
    """The program, 8 bytes per step; None for a machine whose numbers are not known here.

    `only_signalled`: the one process that may be signalled, where Landlock does not see to that.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[machine]
    local = [int(socket.AF_UNIX)]
    connected = [int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET)]  # datagrams could be sent anywhere
    sockets = _unless(0, local) + _unless(1, connected, _TYPE_OF_SOCKET)
    judged: list[tuple[_Numbers, list[_Step]]] = [
        *((numbers, [_returns(_REFUSE)]) for numbers in REFUSED.values()),
        *((numbers, [_returns(_NOTHING)]) for numbers in WITHOUT_EFFECT.values()),
        (_SOCKET, sockets),
        (_SOCKETPAIR, sockets),
        (_CLONE, _unless(0, [0], _NAMESPACES)),
        (_CLONE3, [_returns(_ABSENT)]),  # its flags cannot be seen from here; libraries fall back to clone
        (_PRCTL, _if(0, _PR_SET_DUMPABLE)),  # its memory must remain visible to the parent
        (_PRLIMIT, _unless(0, [0])),  # only of the calling process
    ]
    if only_signalled is not None:
        judged += [(numbers, _unless(0, [0, only_signalled])) for numbers in _KILL_CALLS]
        judged += [(numbers, [_returns(_REFUSE)]) for numbers in _SIGNAL_CALLS]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUALS, 1, 0, architecture),
        _returns(_KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _returns(_ABSENT),
    ]
    for numbers, verdict in judged:
        number = numbers[column]
        if number is not None:
            block = [*verdict, _returns(_ALLOW)]
            steps += [(_EQUALS, 0, len(block), number), *block]
    steps.append(_returns(_ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _returns(verdict: int) -> _Step:
    return (_RETURN, 0, 0, verdict)


def _load_argument(index: int, mask: int) -> list[_Step]:
    """The lower half of an argument: all that the kernel looks at in those that are judged here."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * index), (_AND, 0, 0, mask)]


def _unless(index: int, allowed: Sequence[int], mask: int = _ANY_BIT) -> list[_Step]:
    """Refuse the call unless these bits of its argument are one of the `allowed` values."""
    tests = [(_EQUALS, len(allowed) - place, 0, value) for place, value in enumerate(allowed)]
    return [*_load_argument(index, mask), *tests, _returns(_REFUSE)]


def _if(index: int, refused: int) -> list[_Step]:
    """Refuse the call if its argument has this value."""
    return [*_load_argument(index, _ANY_BIT), (_EQUALS, 0, 1, refused), _returns(_REFUSE)]
