"""The private folder of a run, removed whatever a submission has built in it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder for this user only, which is gone afterwards. It must hold folders alone."""
    folder = tempfile.mkdtemp(prefix="flair2-")
    try:
        yield Path(folder)
    finally:
        with suppress(OSError):
            _remove(folder)


def _remove(root: str) -> None:
    """Remove a folder of folders. None of them is too deep or closed: each is first moved up to the root."""
    names = itertools.count()
    while folders := list(os.scandir(root)):
        for folder in folders:
            os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry, 0o700)  # to move a folder takes the right to write it
                    os.rename(entry, os.path.join(root, f"moved-{next(names)}"))
                else:
                    os.unlink(entry)
            os.rmdir(folder)
    os.rmdir(root)
