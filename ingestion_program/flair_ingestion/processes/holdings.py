"""Files without a name, on a disk or in memory, that other processes have open, mapped or run as a program.

A file whose only descriptor is under way in a socket is not seen.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from flair_ingestion.processes.threads import (
    DESCRIPTORS,
    GONE,
    HiddenError,
    distinct,
    has_memory,
    living_thread,
    read,
    refuse_hidden,
    thread_folder,
    thread_ids,
)

BLOCK_MIB = 512 / 2**20  # of st_blocks
_TRIES = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Mapping:
    """A part of a nameless file that a process has mapped; `end_mib` is where the part ends in the file."""

    device: int
    inode: int
    end_mib: float
    link: str

    def status(self) -> os.stat_result | None:
        """The status of the whole file; None without the capability to see it, CAP_CHECKPOINT_RESTORE."""
        try:
            return os.stat(self.link)
        except OSError:
            return None

    def size_mib(self) -> float:
        """What the whole file takes, in MiB; `end_mib` where that is not known."""
        status = self.status()
        return self.end_mib if status is None else status.st_blocks * BLOCK_MIB


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds, seen through its living thread `tid`; `status` is that thread's."""

    tid: int
    status: bytes
    open: list[os.stat_result]
    mapped: list[Mapping]


@functools.cache
def memory_device() -> int:
    """The device number of memfds and of memory that processes share; such files never have a name."""
    descriptor = os.memfd_create("device")
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)


def look_into(pid: int, device: int | None = None) -> Holdings | None:
    """What a process holds; None if it has ended. With `device`, mapped files of other devices are left out.

    Raises HiddenError where that must not be seen, or if no thread lives long enough to see it.
    """
    for _ in range(_TRIES):
        living = living_thread(pid)
        if living is None:
            return None
        tid, status = living
        found = Holdings(tid, status, list(_open_files(pid, tid)), list(_mappings(pid, tid, device)))
        if has_memory(read(f"{thread_folder(pid, tid)}/status")):
            return found
    raise HiddenError(pid)


def _open_files(pid: int, tid: int) -> Iterator[os.stat_result]:
    """The nameless files that a process has open, and its program if that has no name.

    Threads may have descriptors of their own. Descriptors that they share are read through `tid`, which
    lives.
    """
    for thread in distinct(dict.fromkeys([tid, *thread_ids(pid)]), DESCRIPTORS):
        yield from _nameless(f"{thread_folder(pid, thread)}/fd", None)
    yield from _nameless(thread_folder(pid, tid), ["exe"])


def _mappings(pid: int, tid: int, device: int | None) -> Iterator[Mapping]:
    """The nameless files that a process has mapped; with `device`, only those of that device."""
    wanted = b" (deleted)" if device is None else b" %02x:%02x " % (os.major(device), os.minor(device))
    try:
        maps = read(f"{thread_folder(pid, tid)}/maps")
    except PermissionError:
        refuse_hidden(thread_folder(pid, tid))
        return
    for line in maps.split(b"\n"):
        if wanted in line:
            span, _, offset, number, inode = line.split(None, 5)[:5]
            major, minor = number.split(b":")
            found = os.makedev(int(major, 16), int(minor, 16))
            if inode != b"0" and device in (None, found):
                begin, end = (int(address, 16) for address in span.split(b"-"))
                size = (int(offset, 16) + end - begin) / 2**20
                yield Mapping(found, int(inode), size, f"/proc/{tid}/map_files/{begin:x}-{end:x}")


def _nameless(folder: str, names: list[str] | None) -> Iterator[os.stat_result]:
    """The status of each nameless file that a link in a folder of /proc leads to; `names` are the links."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except PermissionError:
        refuse_hidden(os.path.dirname(folder))
        return
    except GONE:
        return
    try:
        for name in names or _list(descriptor):
            try:
                status = os.stat(name, dir_fd=descriptor)
            except PermissionError:
                refuse_hidden(folder.removesuffix("/fd"))
            except OSError:  # closed meanwhile, or on a network that is down
                continue
            else:
                if status.st_nlink == 0:
                    yield status
    finally:
        os.close(descriptor)


def _list(folder: int) -> list[str]:
    try:
        return os.listdir(folder)
    except GONE:
        return []
