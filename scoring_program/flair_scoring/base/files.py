"""Files that are written whole or not at all, files that are read up to a limit, and folders."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from flair_scoring.base.errors import UsageError


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: under a temporary name beside `path`, which is then renamed.

    Missing folders are made. Raises UsageError if something fails, or if `path` is a folder or a device; then
    nothing is left of the file.
    """
    partial = path.parent / f".{path.name}.partial"
    try:
        if path.exists() and not path.is_file():  # renaming would replace a device by a file
            raise UsageError(f"{path}: is a folder or a device; expected the name of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(
                content.encode(errors="backslashreplace") if isinstance(content, str) else content
            )
            os.replace(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink()
    except OSError as error:
        reason = f"{path.parent} is a file" if isinstance(error, FileExistsError) else error.strerror
        raise UsageError(f"{path}: cannot be written ({reason}); make room or choose another place") from None


def remove_files(paths: Iterable[Path]) -> None:
    """Remove those of the files that exist; UsageError for the first that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be removed ({error.strerror}); remove it, or choose another --output"
            ) from None


def write_all(descriptor: int, content: memoryview, offset: int) -> None:
    """Write all of `content` at byte `offset`, in several system calls if needed. May raise OSError."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def read_file(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises OSError for a larger file, a folder, a pipe or a device, and if reading fails. Its strerror is the
    reason.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is a pipe or a device, not a file", str(path))
        if found.st_size > most:
            raise OSError(0, f"it has {found.st_size} bytes, and at most {most} are read", str(path))
        return file.read(found.st_size)  # no more, even if it grows meanwhile


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. Opening a pipe would otherwise wait until somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it if they are missing; UsageError if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise UsageError(f"{folder}: cannot be written to ({reason}); choose another folder") from None


def require_folder(folder: Path, expected: str) -> None:
    """UsageError unless `folder` is a folder; `expected` says what it should hold."""
    if not folder.is_dir():
        found = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {found}; expected one with {expected}")
