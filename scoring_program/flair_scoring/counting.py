"""Confusion matrices of many pairs of files. Each process holds one pair in memory at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from imagecodecs import deflate_crc32
from tqdm import tqdm

from flair_scoring.base.interrupts import held_signals
from flair_scoring.confusion import patch_counter
from flair_scoring.nomenclature import MAX_FLAIR_VALUE, Nomenclature
from flair_scoring.parallel import default_jobs, parallel_map
from flair_scoring.raster import PATCH_SIZE, read_raster

_CHUNK = 64  # pairs per task: enough that handing them over costs little


@dataclass
class Counts:
    """What was counted in a series of pairs, in their order.

    `matrices` are the confusion matrices, uint32 (K+1, K+1), of the pairs that could be read, and
    `reference_checksums` the CRC-32 of the FLAIR values in their references. `zeros` is the number of their
    reference pixels of value 0. There is a problem for each pair that could not be read.
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
    """Read pairs of files, (path of the reference, path of the prediction), and count their pixels.

    `jobs` is the number of processes, by default one for each core. A few pairs are counted in this process.
    `progress` shows a bar if stderr is a terminal. Raises UsageError if one of the processes is killed, as
    the system does when memory runs out.
    """
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    total = Counts()
    with parallel_map(min(jobs or default_jobs(), len(chunks) // 2)) as map_chunks:
        results = map_chunks(functools.partial(_count_chunk, nomenclature=nomenclature), chunks)
        with held_signals():  # Ctrl-C while a bar of tqdm below 4.70 is made leaves a traceback
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
            # Before counting, which does not keep the mask. zlib computes the same eight times as slowly
            checksum = deflate_crc32(mask)  # type: ignore[arg-type]  # any buffer, says its code
            matrix, zeros = count()
        except ValueError as error:
            counts.prediction_problems.append(f"{prediction}: {error}")
            continue
        counts.matrices.append(matrix.astype(np.uint32))
        counts.reference_checksums.append(checksum)
        counts.zeros += zeros
    return counts
