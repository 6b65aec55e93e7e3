"""Confusion matrices of many pairs of files, on several processes; memory holds one pair per process."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from flair_scoring.base.errors import UsageError
from flair_scoring.base.interrupts import held_signals
from flair_scoring.confusion import byte_counter, confusion_matrix
from flair_scoring.nomenclature import MAX_FLAIR_VALUE, Nomenclature
from flair_scoring.raster import PATCH_SIZE, read_raster

_NIBBLE = 16  # values of half a byte
_CHUNK = 64  # pairs per task: enough that handing them over costs little
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal to get when the parent dies


@dataclass
class Counts:
    """Matrices, uint32 (K+1, K+1), of the pairs that could be read; reference pixels of value 0; problems.

    `reference_checksums` are the CRC-32 of the FLAIR values in the references of these pairs.
    """

    matrices: list[np.ndarray] = field(default_factory=list)
    reference_checksums: list[int] = field(default_factory=list)
    zeros: int = 0
    reference_problems: list[str] = field(default_factory=list)
    prediction_problems: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Append the counts of further pairs."""
        self.matrices += other.matrices
        self.reference_checksums += other.reference_checksums
        self.zeros += other.zeros
        self.reference_problems += other.reference_problems
        self.prediction_problems += other.prediction_problems


def count_pairs(
    pairs: Sequence[tuple[str, str]],
    nomenclature: Nomenclature,
    jobs: int | None = None,
    progress: bool = False,
) -> Counts:
    """Counts of (reference, prediction) paths, in their order. Few pairs stay in this process.

    `jobs` is the number of processes, by default the cores; `progress` shows a bar on a terminal's stderr.
    Raises UsageError if one of the processes is killed, which the system does when memory runs out.
    """
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    total = Counts()
    with _parallel_map(min(jobs or _cores(), len(chunks) // 2)) as parallel_map:
        results = parallel_map(functools.partial(_count_chunk, nomenclature=nomenclature), chunks)
        with held_signals():  # before tqdm 4.70 a bar interrupted while it is made leaves a traceback
            bar = tqdm(total=len(pairs), unit=" patches", disable=None if progress else True)
        with bar:
            for chunk, counts in zip(chunks, results, strict=True):
                total.add(counts)
                bar.update(len(chunk))
    return total


def _count_chunk(pairs: Sequence[tuple[str, str]], nomenclature: Nomenclature) -> Counts:
    counts = Counts()
    mask, labels = np.empty((2, PATCH_SIZE, PATCH_SIZE), np.uint8)
    count = patch_counter(mask, labels, nomenclature)
    for reference, prediction in pairs:
        try:
            read_raster(reference, out=mask)
            if mask.max() > MAX_FLAIR_VALUE:
                raise ValueError(f"reference holds {mask.max()}; expected FLAIR values 1..{MAX_FLAIR_VALUE}")
        except ValueError as error:
            counts.reference_problems.append(f"{reference}: {error}")
            continue
        try:
            read_raster(prediction, out=labels)
            checksum = zlib.crc32(mask.data)  # before counting, which does not keep the mask
            matrix, zeros = count()
        except ValueError as error:
            counts.prediction_problems.append(f"{prediction}: {error}")
            continue
        counts.matrices.append(matrix.astype(np.uint32))
        counts.reference_checksums.append(checksum)
        counts.zeros += zeros
    return counts


def patch_counter(
    mask: np.ndarray, labels: np.ndarray, nomenclature: Nomenclature
) -> Callable[[], tuple[np.ndarray, int]]:
    """A function that counts what is then in two buffers: confusion matrix int64 (K+1, K+1), zeros in `mask`.

    mask: FLAIR values 0..19, which it does not keep; labels: class indices; both uint8, contiguous, of one
    shape with 8 n pixels. The function raises ValueError for a label above K.
    """
    other = nomenclature.other
    in_order = np.array_equal(nomenclature.index_of[1:], np.minimum(np.arange(MAX_FLAIR_VALUE), other))
    if not in_order or other + 1 >= _NIBBLE:

        def count_by_table() -> tuple[np.ndarray, int]:
            matrix = confusion_matrix(nomenclature.index_of.take(mask), labels, other)
            return matrix, mask.size - int(np.count_nonzero(mask))

        return count_by_table

    # The value in the upper half of a byte, the label in the lower one, eight bytes at a time. The index is
    # the value - 1, or *other*: the rows of the table are moved up by one, and 0 joins the last.
    highest = np.full(mask.shape[-1], other + 1, np.uint8)  # numpy is slow with a scalar
    codes, eight_labels = mask.view(np.uint64), labels.view(np.uint64)
    count_codes = byte_counter(mask)

    def count_by_halves() -> tuple[np.ndarray, int]:
        if (found := labels.max()) > other:
            raise ValueError(
                f"prediction holds {found}; expected class indices 0..{other}, not annotation values"
            )
        np.minimum(mask, highest, out=mask)
        np.left_shift(codes, 4, out=codes)
        np.bitwise_or(codes, eight_labels, out=codes)
        table = count_codes().reshape(_NIBBLE, _NIBBLE)[: other + 2, : other + 1]
        zeros = table[0].copy()
        table[-1] += zeros
        return table[1:], int(zeros.sum())

    return count_by_halves


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _parallel_map(jobs: int) -> Iterator[Callable[[Callable, Iterable], Iterable]]:
    """`map` over that many processes, which end with the block."""
    if jobs < 2:
        yield map
        return
    # A fork takes milliseconds and needs no importable __main__. It is safe beside other threads because the
    # children decode and count only: nothing there waits for a lock that a thread could hold.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    before = set(multiprocessing.active_children())

    def start(function: Callable, items: Iterable) -> Iterable:
        with held_signals():  # an exception amid its start would leave the pool waiting for ever
            return pool.map(function, items)

    try:
        with ExitStack() as stack:
            pool = ProcessPoolExecutor(jobs, context, _depend_on, (os.getpid(),))
            stack.callback(pool.shutdown, cancel_futures=True)
            yield start
    except BrokenProcessPool:
        raise UsageError(
            f"one of {jobs} scoring processes was killed; if memory ran out, take fewer of them with --jobs"
        ) from None
    except OSError as error:  # some may run already, and wait for work
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise UsageError(
            f"{jobs} scoring processes cannot be run ({error.strerror}); take fewer of them with --jobs"
        ) from None


def _depend_on(parent: int) -> None:
    """Ctrl-C is the parent's to handle; a parent that is killed takes its processes with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before the line above
            os._exit(1)
