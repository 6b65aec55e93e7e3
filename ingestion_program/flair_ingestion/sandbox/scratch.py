"""The private folder of a run: what a submission holds in it, and its end, whatever has been built there."""

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

MAX_ENTRIES = 100_000  # files and folders; of more than that, not all are looked at
_MAX_SECONDS = 1.0  # ample, so that MAX_ENTRIES decides and not the speed of a disk
_LEAST_STEP = 1 / 16  # of the limit: a disk fills up further by as much before all is looked at again
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Holding:
    """What a submission holds on a disk: `mib` in `entries` files and folders, `complete` if that is all.

    Counting ends where it holds more than `enough_mib`, or so much that it takes too long.
    """

    def __init__(self, enough_mib: float) -> None:
        self.mib, self.entries, self.complete = 0.0, 0, True
        self._enough, self._end = enough_mib, time.monotonic() + _MAX_SECONDS
        self._met: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result) -> None:
        """Count one file or folder, once even if it is met again by another name or without any."""
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
        """Whether there is reason to count further."""
        if self.entries >= MAX_ENTRIES or time.monotonic() > self._end:
            self.complete = False
            return False
        return self.mib <= self._enough


class ScratchWatch:
    """Whether a submission holds more than `limit_mib` in its folder; cheap enough to be asked every second.

    All that it holds is looked at only when free space has become less by as much. Others fill a disk, too.
    """

    def __init__(self, folder: Path, limit_mib: float) -> None:
        self.folder, self.limit_mib = folder, limit_mib
        self._allowance = limit_mib
        self._most_free = _free(folder)

    def excess(self, pids: Iterable[int]) -> Holding | None:
        """What the submission, these processes, holds if that is more than allowed or cannot be seen."""
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
    """What an ordinary user can still write on the disk of a folder; may raise OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / 2**20


def scratch_holding(folder: Path, enough_mib: float, pids: Iterable[int]) -> Holding:
    """What is in a folder, or was, as long as these processes have it open or mapped. Raises nothing.

    Right for a submission that stands still: a file that moves meanwhile may be missed.
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
    """A new folder for this user only, which is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="flair2-")
    try:
        yield Path(folder)
    finally:
        with suppress(OSError):
            _remove(folder)


def _free(folder: Path) -> tuple[float, float]:
    """Free space in MiB and free entries; 0 of both if they are unknown, so that the folder is looked at."""
    try:
        return free_mib(folder), float(os.statvfs(folder).f_favail)
    except OSError:
        return 0.0, 0.0


def _count_nameless(pids: Iterable[int], holding: Holding) -> None:
    """Count what processes have open or mapped that has no name any more; memory of that kind is no disk."""
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
    """Count a folder and all below it with one descriptor, however deep: down by name, up by "..".

    That must lead to where it came from: folders may be moved meanwhile, and then not all is found.
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
    """Count what is in an open folder; the names of the folders in it."""
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
    """Open a folder in a folder; None if it is gone or closed to us."""
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
    """Remove a folder and all in it, down and up as in `_count_below`: here nothing moves any more."""
    here = os.open(root, _FOLDER)
    above: list[list[str]] = []  # of the folders on the way, the names that are left, the last one leads on
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
    """Unlink all in an open folder but the folders; their names."""
    names = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            names.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=folder)
    return names


def _go(here: int, name: str) -> int:
    """Open a folder in an open one, which is closed."""
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there
