"""The time that the harness itself adds to a request: a submission that does nothing, under the clock."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.record import KIT
from flair_ingestion.dataset import Patch
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.reference import NULL_SUBMISSION
from flair_ingestion.submission import open_submission

READING_SECONDS = 0.016  # about what reading a patch of the benchmark's data takes
# The steps of the child for the null submission, in a process of their own: no stop, no sandbox, no parent
ALONE = """
import mmap, os, statistics, sys, time
sys.path[:0] = sys.argv[2:]
import torch
from flair_ingestion.shared_memory import synthetic_request, write_request
from flair_ingestion.sandbox.runner import map_request, read_batch, write_labels
from null_submission.model import Model
model, pause = Model(None, None), float(sys.argv[1])
request = write_request(synthetic_request([{dates}], 40))
target = torch.frombuffer(mmap.mmap(-1, 512 * 512), dtype=torch.uint8).reshape(1, 512, 512)
seconds = []
for _ in range({requests}):
    time.sleep(pause)
    descriptor = os.dup(request.descriptor)
    start = time.perf_counter()
    batch = read_batch(map_request(descriptor))
    write_labels(model.predict(batch), target)
    del batch
    seconds.append(time.perf_counter() - start)
print(statistics.mean(seconds))
"""


def time_null(patches: Sequence[Patch], dates: int, conditions: Conditions, runs: int) -> list[str]:
    """The null submission under the clock, beside its steps alone: what a pause costs on this machine.

    Each run is in a fresh process. `dates` is the length of the patches' series.
    """
    source = (NULL_SUBMISSION / "model.py").read_text()
    medians = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in (1, 10, 32):
            null = Path(folder, str(batch))
            null.mkdir()
            (null / "model.py").write_text(source.replace("batch_size = 10", f"batch_size = {batch}"))
            opened, found = open_submission(null, 1), []
            for _ in range(runs):
                attempt = Attempt()
                measure(opened, patches, conditions, attempt)
                found.append(1000 * attempt.seconds / len(patches))
            medians.append(
                f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}) at batch {batch}"
            )
    rested, busy = (1000 * time_alone(pause, runs, len(patches), dates) for pause in (READING_SECONDS, 0))
    return [
        f"null submission, ms per patch inside the clock, {dates} dates, 40 x 40, median of {runs} runs: "
        f"{', '.join(medians)}; the child's steps alone, in a process without stops, at batch 1: "
        f"{rested:.3f} after pauses of {1000 * READING_SECONDS:g} ms, {busy:.3f} without pauses"
    ]


def time_alone(pause: float, runs: int, requests: int, dates: int) -> float:
    """Seconds that a request of one patch takes without a session: the median of `runs` fresh processes."""
    program = ALONE.format(dates=dates, requests=requests)
    programs = [str(KIT / name) for name in ("ingestion_program", "scoring_program")]
    command = [sys.executable, "-c", program, str(pause), *programs]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)
    )
