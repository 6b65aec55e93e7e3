"""Scoring against the official procedure and against its own floors, side by side in one run.

The official procedure is that of the challenge's scorer, rebuilt here with the same libraries: Pillow opens
both files, scikit-learn counts 13 x 13 classes, the matrices are summed. Ours is `flair_scoring.evaluate`
with everything that users wait for: finding and pairing the files, refusing bad ones, starting the processes.
The floors are decoding alone, and decoding and counting without any check.

`--scale full` runs score.py as a command on the 16,050 pairs of a whole test set and watches its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from imagecodecs import tiff_decode
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_matrix

from common.label_maps import Pair, mean_size, write_pairs
from common.record import KIT, append_record, cores
from flair_scoring import FLAIR_12, evaluate, mean_iou
from flair_scoring.confusion import patch_counter

FULL = 16_050  # patches of the test set
Result = TypeVar("Result")
PACKAGES = ("numpy", "pillow", "imagecodecs", "scikit-learn")


def score_officially(pairs: Sequence[Pair]) -> np.ndarray:
    """The sum of scikit-learn's matrices of all patches, int64 (13, 13)."""
    total = np.zeros((13, 13), np.int64)
    for reference, prediction in pairs:
        truth = np.array(Image.open(reference)) - 1
        truth[truth > 12] = 12
        labels = np.array(Image.open(prediction))
        total += sklearn_matrix(truth.ravel(), labels.ravel(), labels=range(13))
    return total


def decode(pairs: Sequence[Pair]) -> None:
    """Read and decode both files of every pair and do nothing else; no scorer in one process is faster."""
    buffer = np.empty((512, 512), np.uint8)
    for pair in pairs:
        for path in pair:
            with open(path, "rb", buffering=0) as file:
                tiff_decode(file.readall(), out=buffer)


def decode_and_count(pairs: Sequence[Pair]) -> np.ndarray:
    """Read, decode and count every pair as evaluate does, without any check, checksum or message."""
    mask, labels = np.empty((2, 512, 512), np.uint8)
    count = patch_counter(mask, labels, FLAIR_12)
    total = np.zeros((13, 13), np.int64)
    for pair in pairs:
        for path, buffer in zip(pair, (mask, labels), strict=True):
            with open(path, "rb", buffering=0) as file:
                tiff_decode(file.readall(), out=buffer)
        total += count()[0]
    return total


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what the function returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(folder: Path, count: int, rounds: int, compression: str) -> None:
    """Time all ways `rounds` times in turn on the same files; print and record medians and ratios."""
    pairs = write_pairs(folder, count, compression)
    several = f"ours, {cores()} processes"
    contestants: dict[str, Callable[[], np.ndarray | None]] = {
        "official": lambda: score_officially(pairs),
        "ours, 1 process": lambda: evaluate(folder / "pred", folder / "ref", jobs=1).matrix,
        several: lambda: evaluate(folder / "pred", folder / "ref").matrix,
        "decoding and counting alone": lambda: decode_and_count(pairs),
        "decoding alone": lambda: decode(pairs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    expected = np.zeros((13, 13), np.int64)  # until the official procedure has run
    for _ in range(rounds):
        for name, contestant in contestants.items():
            spent, matrix = timed(contestant)
            seconds[name].append(spent)
            if matrix is None:
                continue
            if name == "official":
                expected = matrix
            elif not np.array_equal(matrix, expected):
                sys.exit(f"error: {name} differs from the official matrix")
    figures = [
        f"{count} pairs, {compression} ({mean_size(reference for reference, _ in pairs):.1f} + "
        f"{mean_size(prediction for _, prediction in pairs):.1f} kB), median of {rounds}"
    ]
    figures += [f"{name} {1e3 * statistics.median(s) / count:.3f} ms a pair" for name, s in seconds.items()]
    for name in ("ours, 1 process", several):
        figures.append(f"{name} {ratio(seconds['official'], seconds[name]):.1f}x the official speed")
    for floor in ("decoding alone", "decoding and counting alone"):
        over_floor = ratio(seconds["ours, 1 process"], seconds[floor])
        figures.append(f"ours, 1 process takes {over_floor:.2f}x the time of {floor}")
    figures.append("equal matrices")
    append_record("python benchmarks/scoring.py", figures, PACKAGES)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def score_full(folder: Path) -> None:
    """Run score.py on a whole test set: its seconds, the memory of all its processes, equal matrices."""
    pairs = write_pairs(folder, FULL, "lzw")
    score = [sys.executable, str(KIT / "scoring_program/score.py"), str(folder / "pred"), str(folder / "ref")]
    start = time.perf_counter()
    with subprocess.Popen([*score, "--output", str(folder / "out")], stdout=subprocess.DEVNULL) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"error: score.py ended with {process.returncode}")
    official_seconds, matrix = timed(lambda: score_officially(pairs))
    miou = json.loads((folder / "out" / "scores.json").read_text())["miou"]
    if not np.array_equal(np.load(folder / "out" / "confusion.npz")["matrices"].sum(axis=0), matrix):
        sys.exit("error: score.py differs from the official matrix")
    figures = [
        f"{FULL} pairs, lzw: score.py {seconds:.1f} s from start to exit on {cores()} processes",
        f"at most {peak:.0f} MB resident in all of them together",
        f"official procedure {official_seconds:.1f} s, {official_seconds / seconds:.1f}x",
        f"equal matrices, mIoU apart by {abs(miou - mean_iou(matrix)):.0e}",
    ]
    append_record("python benchmarks/scoring.py --scale full", figures, PACKAGES)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children in MB; pages that they share count for each of them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (pid, *children)]
    except (FileNotFoundError, ProcessLookupError):  # one has just ended
        return 0.0
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Compare every compression, or run the full scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=("part", "full"), default="part")
    parser.add_argument("--pairs", type=int, default=4000, help="of --scale part (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of --scale part (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.scale == "full":
            score_full(Path(folder))
        else:
            for compression in ("lzw", "deflate", "none"):
                compare(Path(folder, compression), args.pairs, args.rounds, compression)


if __name__ == "__main__":
    main()
