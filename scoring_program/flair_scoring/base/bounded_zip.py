"""Zip files of strangers, read in pieces of bounded size, whatever their fields claim."""

from __future__ import annotations

import errno
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

# 10,000 files with names of 300 bytes; zipfile takes 250 bytes and 28 microseconds for each entry of 46 bytes
MAX_DIRECTORY = 4 << 20
_PIECE = 1 << 20
_END_BYTES = 1 << 17  # zipfile looks for the end of the list in the last 65,557 bytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz"}
_Result = TypeVar("_Result")


class ZipError(ValueError):
    """The file is damaged, of an unusual kind, or its list is too long. The message leaves out the path."""


@contextmanager
def open_zip(source: Path | bytes, most: int = MAX_DIRECTORY) -> Iterator[zipfile.ZipFile]:
    """The zip file at a path, or in memory. Its list of entries is read and may have `most` bytes.

    Raises ZipError if the file is damaged or the list is longer, OSError if the system cannot read the file.
    """
    raw = io.BytesIO(source) if isinstance(source, bytes) else io.FileIO(source)
    with _BoundedFile(raw, most) as file, _translated(zipfile.ZipFile, file) as archive:
        yield archive


def read_entry(archive: zipfile.ZipFile, entry: str | zipfile.ZipInfo, most: int) -> bytes:
    """The content of an entry; ZipError if it has more than `most` bytes, and where `read_pieces` raises."""
    content = read_start(read_pieces(archive, entry), most + 1)
    if len(content) > most:
        name = entry if isinstance(entry, str) else entry.filename
        raise ZipError(f"{name!r} unpacks to more than {most} bytes")
    return content


def read_pieces(archive: zipfile.ZipFile, entry: str | zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of an entry in pieces of at most 1 MiB. Raises ZipError if the entry is damaged."""
    info = _translated(archive.getinfo, entry) if isinstance(entry, str) else entry
    if refusal := entry_problem(info):
        raise ZipError(f"{info.filename!r} {refusal}")
    with _translated(archive.open, info) as stream:
        while piece := _translated(stream.read, _PIECE):
            yield piece


def entry_problem(info: zipfile.ZipInfo) -> str | None:
    """The reason not to unpack an entry, None if there is none: encryption, or another method than deflate.

    zipfile gives other methods as much memory as they ask for: 45 bytes of bzip2 can stand for 46 MB.
    """
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type in _METHODS:
        return None
    method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
    return f"is packed with {method}; pack it with deflate, as zip programs do unless told otherwise"


def read_start(pieces: Iterator[bytes], size: int) -> bytes:
    """The first `size` bytes of a content that comes in pieces, or all of it if it is shorter."""
    taken, length = [], 0
    for piece in pieces:
        taken.append(piece)
        length += len(piece)
        if length >= size:
            taken[-1] = piece[: len(piece) - (length - size)]
            break
    return b"".join(taken)


class _BoundedFile(io.BufferedReader):
    """A file that gives at most `most` bytes at once: zipfile asks for the whole list of entries."""

    def __init__(self, raw: Any, most: int) -> None:
        super().__init__(raw)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _END_BYTES
        if size > self._most:
            raise ZipError(f"lists its files in {size} bytes, and at most {self._most} are read")
        return super().read(size)


def _translated(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The function's result. Any exception that zipfile raises for a damaged file becomes a ZipError."""
    try:
        return function(*arguments)
    except ZipError:
        raise
    except OSError as error:
        # bz2 reports damage without a number; EINVAL means that an offset lies before the start of the file
        if error.errno not in (None, errno.EINVAL):
            raise
        reason = "it is damaged" if error.errno is None else "it points outside itself"
    except zipfile.BadZipFile as error:
        reason = str(error)
    except (EOFError, struct.error):
        reason = "it ends too early"
    except UnicodeDecodeError:
        reason = "a file name in it is no text"
    except Exception:  # from zlib, or for an offset or a length that no file can have
        reason = "it is damaged"
    raise ZipError(f"not a readable zip file ({reason})")
