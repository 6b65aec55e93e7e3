"""Predictions on their way from the clock to OUTPUT, which is written whole, after the submission is gone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from flair_ingestion.dataset import Patch
from flair_scoring.errors import UsageError
from flair_scoring.interrupts import held_signals
from flair_scoring.manifest import write_manifest
from flair_scoring.raster import encode_labels

MANIFEST = "manifest.json"


class Spool:
    """Encoded predictions in a file without a name, where no other process finds them; a context manager."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._places: list[tuple[str, int]] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, patches: Sequence[Patch], labels: np.ndarray) -> None:
        """Keep the labels uint8 (B, 512, 512) of these patches."""
        for patch, patch_labels in zip(patches, labels, strict=True):
            encoded = encode_labels(patch_labels)
            rest = memoryview(encoded)
            try:
                while rest:  # without a buffer, a full disk is noticed here, and writes may be short
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                place = tempfile.gettempdir()
                raise UsageError(f"{place}: no room for predictions ({error.strerror}); set TMPDIR") from None
            self._places.append((patch.id, len(encoded)))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Id and TIFF of each prediction, in the order in which they came."""
        self._file.seek(0)
        for patch_id, size in self._places:
            yield patch_id, self._file.read(size)


def check_output(output: Path, kept: Sequence[Path], platform: bool) -> None:
    """Raises UsageError unless OUTPUT may be written: absent, empty, or an earlier output of ours.

    It must not overlap any of the `kept` paths. On the platform it may hold anything; that will be deleted.
    """
    place = output.resolve()
    for path in (path.resolve() for path in kept):
        if place == path or place in path.parents or path in place.parents:
            raise UsageError(f"{output}: overlaps {path}; choose a folder elsewhere")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is not a folder")
    if not platform and os.path.ismount(place):
        raise UsageError(f"{output}: is a mount point, which cannot be replaced; name a folder inside it")
    above = next(folder for folder in place.parents if folder.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".flair2-", dir=place if platform and place.exists() else above))
    except OSError as error:
        raise UsageError(f"{output}: cannot be made ({error.strerror}); choose another folder") from None
    if not platform and output.is_dir() and any(output.iterdir()) and not _is_ours(output):
        raise UsageError(
            f"{output}: holds files that ingestion did not write; choose an absent or empty folder"
        )


def write_output(
    output: Path, timing: dict[str, Any], spool: Spool | None, key: bytes | None, platform: bool
) -> None:
    """Write OUTPUT: timing.json, predictions/ and ids.txt if there is a spool, last manifest.json.

    It is filled under another name and then takes the place of what was there. On the platform OUTPUT is a
    mount: it is emptied and filled in place. Raises UsageError if it cannot be written.
    """
    try:
        if platform:
            output.mkdir(parents=True, exist_ok=True)
            _empty(output)
            _fill(output, timing, spool, key)
            return
        place = output.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            (folder / "new").mkdir()
            _fill(folder / "new", timing, spool, key)
            with held_signals():
                _replace(place, folder / "new", folder / "old")
        finally:
            with held_signals():
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror}); make room or choose another place"
        ) from None


def _fill(folder: Path, timing: dict[str, Any], spool: Spool | None, key: bytes | None) -> None:
    (folder / "timing.json").write_text(json.dumps(timing, indent=1, allow_nan=False) + "\n")
    if spool:
        (folder / "predictions").mkdir()
        ids = []
        for patch_id, encoded in spool.files():
            (folder / "predictions" / f"PRED_{patch_id}.tif").write_bytes(encoded)
            ids.append(f"{patch_id}\n")
        (folder / "ids.txt").write_text("".join(ids))
    write_manifest(folder, key)


def _replace(place: Path, new: Path, old: Path) -> None:
    """Put `new` at `place`, and what was there at `old`; if that fails, everything is as before."""
    existed = place.exists()
    if existed:
        os.rename(place, old)
    try:
        os.rename(new, place)
    except OSError:
        if existed:
            os.rename(old, place)
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
