"""The folder of a training run: one process at a time writes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder

LOCK = ".lock"


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Inside, the folder RUN is there and no other process can claim it; UsageError when another one has.

    Folders that this had to make are removed again if they stay empty.
    """
    missing = [folder for folder in (run, *run.parents) if not folder.exists()]
    make_folder(run)
    lock = FileLock(run / LOCK)
    try:
        with _held(lock, run):
            yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _held(lock: FileLock, run: Path) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{run}: another process trains there; choose another --output, or wait for its end"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held: afterwards it may be another process's
        lock.release()
