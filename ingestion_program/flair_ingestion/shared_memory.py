"""The memory through which requests go to a submission, and its labels come back.

Each request is written into a memory of its own (a memfd) before the clock starts. At that time the
submission has neither a descriptor nor a mapping of this memory, so it can neither see nor disturb the
request. Then the memory is sealed: its size and content cannot change any more. The submission gets the
descriptor together with the signal to begin, and maps the memory privately, so that its changes stay in its
own copy.

Labels come back through one shared memory, which is as large as the largest request needs and sealed against
resizing.

A request is a small JSON header, followed by its arrays. The header says where each array lies, so the child
needs no other knowledge of the layout.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flair_ingestion.dataset import BANDS, Patch, read_image, read_superpatch
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import write_all
from flair_scoring.raster import PATCH_SIZE

# The labels are filled with this value before each request: a pixel that still has it was not predicted
UNWRITTEN = np.uint8(255)
_HEADER_BYTES = 1 << 16
_ALIGNMENT = 64
_AERIAL = (5, PATCH_SIZE, PATCH_SIZE)
_SEALING_SECONDS = 30
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Request:
    """What `Model.predict` gets for B patches, as the submission's interface describes it, in arrays.

    `aerial` uint8 (B, 5, 512, 512); lists of B: `sentinel` uint16 (T, 10, S, S), `sentinel_masks` uint8
    (T, 2, S, S), `sentinel_dates` int32 (T,), `metadata` dicts.
    """

    aerial: np.ndarray
    sentinel: list[np.ndarray]
    sentinel_masks: list[np.ndarray]
    sentinel_dates: list[np.ndarray]
    metadata: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.aerial)


def read_request(patches: Sequence[Patch], superpatch_size: int) -> Request:
    """Read these patches from the disk as one request."""
    aerial = np.empty((len(patches), *_AERIAL), np.uint8)
    for image, patch in zip(aerial, patches, strict=True):
        image[...] = read_image(patch)  # most files are pixel-interleaved, and a request is not
    series = [read_superpatch(patch, superpatch_size) for patch in patches]
    return Request(
        aerial,
        [one.data for one in series],
        [one.masks for one in series],
        [one.dates for one in series],
        [patch.metadata for patch in patches],
    )


def synthetic_request(lengths: Sequence[int], superpatch_size: int, seed: int = 0) -> Request:
    """A request of random numbers for warm-up, with one patch for each length of series."""
    random = np.random.default_rng(seed)
    window = (superpatch_size, superpatch_size)
    metadata: dict[str, Any] = {"date": "2021-06-15", "time": "11h30", "camera": "UCE-M3-f120-s06"}
    metadata |= {"patch_centroid_x": 650000.0, "patch_centroid_y": 6650000.0, "patch_centroid_z": 150.0}
    return Request(
        random.integers(0, 256, (len(lengths), *_AERIAL), dtype=np.uint8),
        [random.integers(0, 4000, (length, BANDS, *window), dtype=np.uint16) for length in lengths],
        [random.integers(0, 40, (length, 2, *window), dtype=np.uint8) for length in lengths],
        [np.linspace(18628, 18992, length).astype(np.int32) for length in lengths],  # the days of 2021
        [dict(metadata) for _ in lengths],
    )


def request_bytes(batch_size: int, superpatch_size: int, longest: int) -> int:
    """The most bytes of a request of `batch_size` patches whose series have up to `longest` dates."""
    window = superpatch_size**2
    arrays = [longest * BANDS * window * 2, longest * 2 * window, longest * 4]
    patch = int(np.prod(_AERIAL)) + sum(arrays) + len(arrays) * _ALIGNMENT
    return _HEADER_BYTES + _ALIGNMENT + batch_size * patch


@dataclass(frozen=True)
class Layout:
    """A request as it will be written: its header, and its arrays, each with its offset in bytes."""

    header: bytes
    arrays: list[tuple[int, np.ndarray]]


def plan_layout(request: Request) -> Layout:
    """Give every array of a request its offset; raises DataError if the metadata do not fit in the header."""
    arrays: list[tuple[int, np.ndarray]] = []
    end = _HEADER_BYTES

    def add(array: np.ndarray) -> dict[str, Any]:
        nonlocal end
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = offset + array.nbytes
        arrays.append((offset, np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        return {"dtype": array.dtype.name, "shape": array.shape, "offset": offset}

    described: dict[str, Any] = {"aerial": add(request.aerial)}
    for name in ("sentinel", "sentinel_masks", "sentinel_dates"):
        described[name] = [add(array) for array in getattr(request, name)]
    text = json.dumps({"arrays": described, "metadata": request.metadata}).encode()
    header = len(text).to_bytes(8, "little") + text
    if len(header) > _HEADER_BYTES:
        raise DataError(
            f"the metadata of {len(request)} patches take {len(header)} bytes; at most {_HEADER_BYTES} fit"
        )
    return Layout(header, arrays)


@dataclass(frozen=True)
class SealedRequest:
    """A request of `count` patches in a memory that can no longer be changed. Its owner must close it."""

    descriptor: int
    count: int

    def close(self) -> None:
        """Close this process's descriptor of the memory."""
        os.close(self.descriptor)


def write_request(request: Request) -> SealedRequest:
    """Write a request into a new memory and seal it; raises DataError if its metadata do not fit."""
    layout = plan_layout(request)
    descriptor = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for offset, content in [(0, np.frombuffer(layout.header, np.uint8)), *layout.arrays]:
            write_all(descriptor, memoryview(content), offset)  # type: ignore[arg-type]
        _seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return SealedRequest(descriptor, len(request))


def _seal(descriptor: int) -> None:
    """Forbid every change of a memory's size and content; raises UsageError if the kernel refuses for long.

    The kernel refuses (EBUSY) while anything else still holds a page of the memory. The kernel itself does so
    for a moment when it moves pages, on a machine that is short of memory.
    """
    deadline = time.monotonic() + _SEALING_SECONDS
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FIXED_SIZE | fcntl.F_SEAL_WRITE)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > deadline:
                raise UsageError(
                    f"the kernel has held the memory of a request for {_SEALING_SECONDS} seconds, so this "
                    "memory could not be sealed; free the machine of other work, and start again"
                ) from None
        time.sleep(0.01)  # the kernel itself has waited for about 0.15 seconds before it refused


class LabelMemory:
    """The labels of one request, uint8 (batch_size, 512, 512); the child writes them through `descriptor`."""

    def __init__(self, batch_size: int) -> None:
        shape = (batch_size, PATCH_SIZE, PATCH_SIZE)
        self.descriptor = os.memfd_create("labels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(self.descriptor, math.prod(shape))
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _FIXED_SIZE)
        self._shared = np.frombuffer(mmap.mmap(self.descriptor, 0), np.uint8).reshape(shape)
        # Filled now, so that the copy under the clock does not wait for pages of memory
        self._copied = np.full(shape, UNWRITTEN)

    def poison(self) -> None:
        """Mark every pixel as not predicted."""
        self._shared[...] = UNWRITTEN

    def copy_away(self, count: int) -> np.ndarray:
        """Copy the labels of the first `count` patches, uint8 (count, 512, 512), out of the shared memory.

        The copy is valid until the next call.
        """
        copied = self._copied[:count]
        np.copyto(copied, self._shared[:count])
        return copied

    def close(self) -> None:
        """Close the descriptor; the mapping ends with this object."""
        os.close(self.descriptor)
