"""What reading costs beside inference: wall time on the CPU, and the effect of readers in other processes."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common.ratios import divide, standard_error
from flair_ingestion import measurement
from flair_ingestion.clock import clock
from flair_ingestion.dataset import Patch
from flair_ingestion.devices.device import Device
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.predictions import Spool
from flair_ingestion.reading import Groups, Readers, Requests, read_here, start_readers
from flair_ingestion.submission import Submission, open_submission

# Keeps a processor busy for so long, as a program does that waits for a GPU
FAKE_DEVICE = """
import time, torch
class Model:
    batch_size = 10
    def __init__(self, submission_dir, device):
        self.labels = torch.zeros(self.batch_size, 512, 512, dtype=torch.uint8)
    def predict(self, batch):
        count = len(batch["metadata"])
        end = time.perf_counter() + count * {seconds}
        while time.perf_counter() < end:
            pass
        return self.labels[:count]
"""
FAKE_SECONDS = 0.002  # for each patch


def compare_wall_time(submission: Submission, patches: Sequence[Patch], conditions: Conditions) -> list[str]:
    """The time from reading the first patch to storing the last labels, beside reading plus inference."""
    if conditions.device.kind == "cuda":
        return ["wall time: not measured on CUDA, where other processes read"]
    reading: list[tuple[float, float]] = []
    delivered: list[float] = []
    attempt = Attempt()

    def read(groups: Groups, size: int) -> Requests:
        requests = read_here(groups, size)
        for _ in groups:
            begin = clock()
            request = next(requests)
            reading.append((begin, clock()))
            yield request

    with Spool(len(patches), 1) as spool:
        spool.begin_attempt()

        def deliver(*arguments: Any) -> None:
            spool.add(*arguments)
            delivered.append(clock())

        with patch.object(measurement, "read_here", read):
            measure(submission, patches, conditions, attempt, deliver=deliver)
    wall, read_seconds = delivered[-1] - reading[0][0], math.fsum(end - begin for begin, end in reading)
    ratio = wall / (read_seconds + attempt.seconds)
    return [
        f"wall time {wall:.2f} s for {len(patches)} patches: {ratio:.3f} of "
        f"reading {read_seconds:.2f} s and inference {attempt.seconds:.2f} s"
    ]


def compare_readers(patches: Sequence[Patch], conditions: Conditions, runs: int) -> list[str]:
    """How much slower a device of 2 ms a patch gets when other processes read, as they do on CUDA."""
    beside: list[float] = []
    here: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.py").write_text(FAKE_DEVICE.format(seconds=FAKE_SECONDS))
        submission = open_submission(Path(folder), 1)
        original = measurement.work_beside
        for run in range(runs):
            for found, replacement in [(beside, read_beside), (here, original)][:: 1 if run % 2 else -1]:
                attempt = Attempt()
                with patch.object(measurement, "work_beside", replacement):
                    measure(submission, patches, conditions, attempt)
                found.append(attempt.seconds)
    ratios = divide(beside, here)
    clocked = 1000 * statistics.median(here) / len(patches)
    return [
        f"a device that takes {1000 * FAKE_SECONDS:g} ms a patch, {clocked:.2f} inside the clock: with "
        f"readers beside {statistics.mean(ratios):.4f} of that (standard error "
        f"{standard_error(ratios):.4f}, {runs} runs of {len(patches)} patches)"
    ]


@contextmanager
def read_beside(_: Device) -> Iterator[tuple[Readers, None]]:
    """Reading processes without the watch of a GPU, which is not there."""
    with start_readers() as readers:
        yield readers, None
