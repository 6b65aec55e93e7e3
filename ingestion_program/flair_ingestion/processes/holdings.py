"""Files without a name, of the disk or of memory, that other processes hold: open, running or mapped.

Not seen are files whose descriptors are under way in a socket.
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
    """A part of a nameless file, in the memory of a process; `end_mib` is where the part ends in the file."""

    device: int
    inode: int
    end_mib: float
    link: str

    def status(self) -> os.stat_result | None:
        """That of the whole file; None where we may not know it, for want of CAP_CHECKPOINT_RESTORE."""
        try:
            return os.stat(self.link)
        except OSError:
            return None

    def size_mib(self) -> float:
        """What the whole file takes, or else `end_mib`."""
        status = self.status()
        return self.end_mib if status is None else status.st_blocks * BLOCK_MIB


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds, as seen through a living thread `tid` of it, and the `status` of that."""

    tid: int
    status: bytes
    open: list[os.stat_result]
    mapped: list[Mapping]


@functools.cache
def memory_device() -> int:
    """The filesystem of memfds and of memory that processes share; its files never have a name."""
    descriptor = os.memfd_create("device")
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)


def look_into(pid: int, device: int | None = None) -> Holdings | None:
    """What a process holds, mapped only of one device if given; None if it holds nothing any more.

    Raises HiddenError where that must not be seen, or no thread lives long enough to see it.
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
    """The nameless files that a process has open, and its program if it has no name.

    Threads may have descriptors of their own. Where they share them, those of `tid`, which lives, are read.
    """
    for thread in distinct(dict.fromkeys([tid, *thread_ids(pid)]), DESCRIPTORS):
        yield from _nameless(f"{thread_folder(pid, thread)}/fd", None)
    yield from _nameless(thread_folder(pid, tid), ["exe"])


def _mappings(pid: int, tid: int, device: int | None) -> Iterator[Mapping]:
    """The nameless files in the memory of a process, all or those of one device."""
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
    """The status of what the links in a folder of /proc lead to, if that has no name any more."""
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
