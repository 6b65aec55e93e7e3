"""The private folder of a run: how much a submission holds in it, and how it is removed.

A submission may build anything there: very deep folders, files that it deletes and keeps open.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flair_ingestion.processes import holdings
from flair_ingestion.processes.threads import HiddenError

MAX_ENTRIES = 100_000  # files and folders that are counted; counting ends there
_MAX_SECONDS = 1.0  # for counting; long enough that MAX_ENTRIES ends it and not a slow disk
_LEAST_STEP = 1 / 16  # of the limit: free space must shrink by that much before all is counted again
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Holding:
    """What a submission holds on a disk: `mib` in `entries` files and folders; `complete`: all were counted.

    Counting ends above `enough_mib`, after MAX_ENTRIES entries, or after a second.
    """

    def __init__(self, enough_mib: float) -> None:
        self.mib, self.entries, self.complete = 0.0, 0, True
        self._enough, self._end = enough_mib, time.monotonic() + _MAX_SECONDS
        self._met: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result) -> None:
        """Count one file or folder; a file with several names, or met without a name, counts once."""
        again = status.st_nlink != 1 and not stat.S_ISDIR(status.st_mode)
        self._add(status.st_blocks * holdings.BLOCK_MIB, _identity(status) if again else None)

    def add_mapped(self, part: holdings.Mapping) -> None:
        """Count a nameless file of which a part is mapped."""
        status = part.status()
        if status is None:
            self._add(part.end_mib, (part.device, part.inode))
        elif status.st_nlink == 0:
            self.add(status)

    def _add(self, mib: float, identity: tuple[int, int] | None) -> None:
        self.entries += 1
        if identity not in self._met:
            self.mib += mib
        if identity:
            self._met.add(identity)

    def goes_on(self) -> bool:
        """Whether counting goes on; sets `complete` to False where it took too long."""
        if self.entries >= MAX_ENTRIES or time.monotonic() > self._end:
            self.complete = False
            return False
        return self.mib <= self._enough


class ScratchWatch:
    """Tells whether a submission holds more than `limit_mib` in its folder; may be asked every second.

    The submission's files are counted only after the free space of the disk has shrunk by as much as it may
    still write. They must be counted then, since other programs fill the disk, too.
    """

    def __init__(self, folder: Path, limit_mib: float) -> None:
        self.folder, self.limit_mib = folder, limit_mib
        self._allowance = limit_mib
        self._most_free = _free(folder)

    def excess(self, pids: Iterable[int]) -> Holding | None:
        """What a submission with these processes holds, if that is more than allowed or cannot be counted."""
        free = mib, entries = _free(self.folder)
        most_mib, most_entries = self._most_free
        self._most_free = max(mib, most_mib), max(entries, most_entries)
        if most_mib - mib <= self._allowance and most_entries - entries <= MAX_ENTRIES:
            return None
        held = scratch_holding(self.folder, self.limit_mib, pids)
        if held.mib > self.limit_mib or not held.complete:
            return held
        self._most_free = free
        self._allowance = max(self.limit_mib - held.mib, self.limit_mib * _LEAST_STEP)
        return None


def free_mib(folder: Path) -> float:
    """MiB that an ordinary user can still write on the disk of a folder; may raise OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / 2**20


def scratch_holding(folder: Path, enough_mib: float, pids: Iterable[int]) -> Holding:
    """What is in a folder, with deleted files that these processes have open or mapped. Raises nothing.

    It is exact for a submission that stands still: a file that is moved meanwhile may be missed.
    """
    holding = Holding(enough_mib)
    try:
        _count_nameless(pids, holding)
        _count_below(folder, holding)
    except (OSError, HiddenError):
        holding.complete = False
    return holding


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user may open; it is removed at the end of the `with` block."""
    folder = tempfile.mkdtemp(prefix="flair2-")
    try:
        yield Path(folder)
    finally:
        with suppress(OSError):
            _remove(folder)


def _free(folder: Path) -> tuple[float, float]:
    """Free space in MiB and free entries; 0 and 0 if they are unknown, so that files are counted."""
    try:
        return free_mib(folder), float(os.statvfs(folder).f_favail)
    except OSError:
        return 0.0, 0.0


def _count_nameless(pids: Iterable[int], holding: Holding) -> None:
    """Count deleted files that processes have open or mapped, but not those in memory."""
    memory = holdings.memory_device()
    for pid in pids:
        if not holding.goes_on():
            return
        if found := holdings.look_into(pid):
            for status in found.open:
                if status.st_dev != memory:
                    holding.add(status)
            for part in found.mapped:
                if part.device != memory:
                    holding.add_mapped(part)


def _count_below(folder: Path, holding: Holding) -> None:
    """Count a folder and all below it, however deep, with one descriptor: down by name, up by "..".

    A folder may be moved meanwhile. Then ".." leads to another folder, and the count is not complete.
    """
    here = os.open(folder, _FOLDER)
    try:
        above: list[tuple[tuple[int, int], list[str]]] = []  # folders on the way, and what is left in each
        status = os.fstat(here)
        holding.add(status)
        identity, left = _identity(status), _count_in(here, holding)
        while holding.goes_on() and (left or above):
            if left:
                there = _open_below(left.pop(), here, holding)
                if there is None:
                    continue
                above.append((identity, left))
                os.close(here)
                here = there
                identity, left = _identity(os.fstat(here)), _count_in(here, holding)
            else:
                here = _go(here, "..")
                identity, left = above.pop()
                if _identity(os.fstat(here)) != identity:
                    holding.complete = False
                    return
    finally:
        os.close(here)


def _count_in(folder: int, holding: Holding) -> list[str]:
    """Count the entries of an open folder; returns the names of the folders in it."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not holding.goes_on():
                break
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                holding.add(status)
                if stat.S_ISDIR(status.st_mode):
                    names.append(entry.name)
    return names


def _open_below(name: str, folder: int, holding: Holding) -> int | None:
    """Open a folder inside an open one. Returns None if it is gone or may not be opened."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        holding.complete = False
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _remove(root: str) -> None:
    """Remove a folder and all in it, going down and up as `_count_below` does; nothing is moved any more."""
    here = os.open(root, _FOLDER)
    above: list[list[str]] = []  # the names that are left in each folder on the way; the last one leads down
    try:
        left = _empty(here)
        while left or above:
            if left:
                os.chmod(left[-1], 0o700, dir_fd=here)
                here = _go(here, left[-1])
                above.append(left)
                left = _empty(here)
            else:
                here = _go(here, "..")
                left = above.pop()
                os.rmdir(left.pop(), dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(root)


def _empty(folder: int) -> list[str]:
    """Unlink all files of an open folder; returns the names of the folders in it."""
    names = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            names.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=folder)
    return names


def _go(here: int, name: str) -> int:
    """Open a folder inside the open folder `here`, and close `here`."""
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there
