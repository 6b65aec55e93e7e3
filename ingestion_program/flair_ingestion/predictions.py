"""Predictions wait in a temporary file until the submission is gone; then OUTPUT is written as a whole."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from flair_ingestion.dataset import Patch
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import write_all
from flair_scoring.base.interrupts import held_signals
from flair_scoring.outputs.manifest import NAME as MANIFEST
from flair_scoring.outputs.manifest import write_manifest
from flair_scoring.parallel import default_jobs, parallel_map
from flair_scoring.raster import PATCH_SIZE, encode_labels

_PACKED_BYTES = PATCH_SIZE**2 // 2
_ENCODED_TOGETHER = 16  # by one process
_PIECES_AHEAD = 8  # for each process; what is encoded waits in memory until it is written

Predictions = Iterable[tuple[str, bytes]]  # id and TIFF of each prediction


class Spool:
    """The labels of all attempts, in a file without a name, which no other process can find.

    A pixel takes half a byte. Room for all attempts is reserved at the start: on most file systems, a
    submission that fills the disk cannot take it then. A spool is a context manager. Raises UsageError if
    there is too little room.
    """

    def __init__(self, patches: int, attempts: int) -> None:
        self._attempt_bytes = patches * _PACKED_BYTES
        self._ids: list[list[str]] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        try:
            os.posix_fallocate(self._file.fileno(), 0, attempts * self._attempt_bytes)
        except OSError as error:
            self._file.close()
            raise _no_room(attempts * self._attempt_bytes, error) from None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def begin_attempt(self) -> None:
        """Begin the next attempt; labels that are added from now on belong to it."""
        self._ids.append([])

    def add(self, patches: Sequence[Patch], labels: np.ndarray) -> None:
        """Keep the labels uint8 (B, 512, 512), values 0..15, of these patches."""
        for patch, patch_labels in zip(patches, labels, strict=True):
            upper, lower = np.split(patch_labels.reshape(-1), 2)
            offset = self._offset(len(self._ids) - 1, len(self._ids[-1]))
            try:
                write_all(self._file.fileno(), memoryview(upper << 4 | lower), offset)
            except OSError as error:
                raise _no_room(_PACKED_BYTES, error) from None
            self._ids[-1].append(patch.id)

    def files(self, attempt: int) -> Iterator[tuple[str, bytes]]:
        """Id and TIFF of each prediction of an attempt (0 is the first), in the order in which they came.

        Processes encode them, one for each core: Pillow keeps the interpreter's lock while it encodes, so
        threads would wait for each other.
        """
        ids, encode = self._ids[attempt], functools.partial(_encode, self._file.fileno())
        offsets = [self._offset(attempt, index) for index in range(len(ids))]
        pieces = [offsets[start:][:_ENCODED_TOGETHER] for start in range(0, len(ids), _ENCODED_TOGETHER)]
        waiting = iter(ids)
        jobs = min(default_jobs(), len(pieces) // 2)
        with parallel_map(jobs, "encoding", "free memory, and run again") as map_pieces:
            for start in range(0, len(pieces), _PIECES_AHEAD * max(jobs, 1)):
                some = pieces[start:][: _PIECES_AHEAD * max(jobs, 1)]
                for encoded in map_pieces(encode, some):
                    yield from zip(itertools.islice(waiting, len(encoded)), encoded, strict=True)

    def difference(self, one: int, other: int) -> float:
        """The fraction of the pixels in which two complete attempts (0 is the first) differ."""
        count = len(self._ids[one])
        pixels = 0
        for index in range(count) if one != other else ():
            unequal = self._packed(one, index) ^ self._packed(other, index)
            pixels += int(np.count_nonzero(unequal >> 4) + np.count_nonzero(unequal & 15))
        return pixels / (count * PATCH_SIZE**2)

    def _packed(self, attempt: int, index: int) -> np.ndarray:
        return _read_packed(self._file.fileno(), self._offset(attempt, index))

    def _offset(self, attempt: int, index: int) -> int:
        return attempt * self._attempt_bytes + index * _PACKED_BYTES


def _read_packed(descriptor: int, offset: int) -> np.ndarray:
    return np.frombuffer(os.pread(descriptor, _PACKED_BYTES, offset), np.uint8)


def _encode(descriptor: int, offsets: Sequence[int]) -> list[bytes]:
    """The TIFFs of the labels that lie at these offsets of a spool's file."""
    found = []
    for offset in offsets:
        both = _read_packed(descriptor, offset)
        found.append(encode_labels(np.concatenate([both >> 4, both & 15]).reshape(PATCH_SIZE, PATCH_SIZE)))
    return found


def _no_room(size: int, error: OSError) -> UsageError:
    return UsageError(
        f"{tempfile.gettempdir()}: no room for {size / 2**20:.0f} MiB of predictions ({error.strerror}); "
        "make room, or set TMPDIR to a folder on a larger disk"
    )


def check_output(output: Path, kept: Sequence[Path], platform: bool) -> None:
    """Raises UsageError unless OUTPUT may be written: it is absent, empty, or an earlier output of ours.

    It must not overlap any of the `kept` paths. On the platform it may hold anything; that will be deleted.
    """
    target = output.resolve()
    for path in (path.resolve() for path in kept):
        if target == path or target in path.parents or path in target.parents:
            raise UsageError(f"{output}: overlaps {path}; choose a folder elsewhere")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is not a folder")
    if not platform and os.path.ismount(target):
        raise UsageError(f"{output}: is a mount point, which cannot be replaced; name a folder inside it")
    above = next(folder for folder in target.parents if folder.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".flair2-", dir=target if platform and target.exists() else above))
    except OSError as error:
        raise UsageError(f"{output}: cannot be made ({error.strerror}); choose another folder") from None
    if not platform and output.is_dir() and any(output.iterdir()) and not _is_ours(output):
        raise UsageError(
            f"{output}: holds files that ingestion did not write; choose an absent or empty folder"
        )


def write_output(
    output: Path, timing: dict[str, Any], predictions: Predictions | None, key: bytes | None, platform: bool
) -> None:
    """Write OUTPUT: timing.json, then predictions/ and ids.txt if there are predictions, then manifest.json.

    A folder beside OUTPUT is filled and then replaces it. On the platform OUTPUT is a mount, which cannot be
    replaced, so it is emptied and filled. Raises UsageError if OUTPUT cannot be written.
    """
    try:
        if platform:
            output.mkdir(parents=True, exist_ok=True)
            _empty(output)
            _fill(output, timing, predictions, key)
            return
        target = output.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            (folder / "new").mkdir()
            _fill(folder / "new", timing, predictions, key)
            with held_signals():
                _replace(target, folder / "new", folder / "old")
        finally:
            with held_signals():
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror}); make room or choose another folder"
        ) from None


def _fill(folder: Path, timing: dict[str, Any], predictions: Predictions | None, key: bytes | None) -> None:
    (folder / "timing.json").write_text(json.dumps(timing, indent=1, allow_nan=False) + "\n")
    if predictions is not None:
        (folder / "predictions").mkdir()
        ids = []
        for patch_id, encoded in predictions:
            (folder / "predictions" / f"PRED_{patch_id}.tif").write_bytes(encoded)
            ids.append(f"{patch_id}\n")
        ids.sort()  # they come in the order of the run
        (folder / "ids.txt").write_text("".join(ids))
    write_manifest(folder, key)


def _replace(target: Path, new: Path, old: Path) -> None:
    """Move what is at `target` to `old`, then `new` to `target`; if that fails, everything is as before."""
    existed = target.exists()
    if existed:
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if existed:
            os.rename(old, target)
        raise


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _is_ours(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"schema", "kit_version", "files"} <= manifest.keys()
