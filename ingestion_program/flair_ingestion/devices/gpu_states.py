"""How the GPU runs while a submission is timed: its clock, power and energy, and what keeps its clock down.

Another process looks at the GPU, twice a second. A thread would share the interpreter's lock with our clock.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import IO

from flair_ingestion.clock import clock
from flair_ingestion.devices.nvidia import GpuState, read_state
from flair_ingestion.sandbox import policy
from flair_scoring.base.processes import end_with_parent

MAX_CLOCK_DIFFERENCE = 0.05  # between reference and submission, as a fraction; a larger one is told
_INTERVAL = 0.5  # seconds
_SHARE_OF_REASON = 0.1  # a reason that holds in fewer looks is not told
_PROGRAM = "from flair_ingestion.devices.gpu_states import serve; serve()"


class GpuWatch:
    """What the other process has seen of the GPU so far, in the file `seen`."""

    def __init__(self, seen: IO[bytes]) -> None:
        self._seen = seen

    def between(self, begin: float, end: float, patches: int = 0) -> GpuState | None:
        """How the GPU ran between two times on `clock`; None if it was not looked at.

        With the number of patches that were predicted in that time, also the energy for each of them. It is
        that of the whole time: the GPU needs power between two requests as well, while the kit reads.
        """
        size = os.fstat(self._seen.fileno()).st_size
        # pread does not move the position at which the other process writes
        text = os.pread(self._seen.fileno(), size, 0)
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
        found = summarise([GpuState(**state) for then, state in rows if begin <= then <= end])
        if found is None or found.power_watts is None or not patches:
            return found
        return replace(found, joules_per_patch=found.power_watts * (end - begin) / patches)


def summarise(states: Sequence[GpuState]) -> GpuState | None:
    """Median clock, mean power, and the reasons that a tenth of the states have; None without states."""
    if not states:
        return None
    counts = Counter(reason for state in states for reason in state.reasons)
    return GpuState(
        _known(statistics.median, [state.clock_mhz for state in states]),
        _known(statistics.fmean, [state.power_watts for state in states]),
        sorted(reason for reason, count in counts.items() if count >= _SHARE_OF_REASON * len(states)),
    )


def describe_difference(reference: GpuState | None, submission: GpuState | None) -> str | None:
    """A sentence if the GPU's clock differed between submission and reference, otherwise None."""
    if not (reference and submission and reference.clock_mhz and submission.clock_mhz):
        return None
    low, high = sorted([reference.clock_mhz, submission.clock_mhz])
    if high <= low * (1 + MAX_CLOCK_DIFFERENCE):
        return None
    return (
        f"the GPU ran at {submission.clock_mhz:.0f} MHz for the submission{_because(submission)} and at "
        f"{reference.clock_mhz:.0f} MHz for the reference{_because(reference)}"
    )


@contextmanager
def watch_gpu(uuid: str, processors: set[int] | None) -> Iterator[GpuWatch]:
    """Look at this GPU until the end of the `with` block, on these processors (None: on all).

    The block must begin before a submission starts, or the process that looks would be taken for its own.
    """
    with tempfile.TemporaryFile() as seen:
        looker = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", _PROGRAM, uuid, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=seen,
            stderr=subprocess.DEVNULL,
            # sys.path, so that it finds the modules that this process has found
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C reaches this process alone
        )
        try:
            if processors:
                os.sched_setaffinity(looker.pid, processors)
            yield GpuWatch(seen)
        finally:
            looker.kill()
            looker.wait()


def serve() -> None:
    """The program of the process that looks: for each look it prints a line of JSON with time and state."""
    end_with_parent(int(sys.argv[2]))
    policy.shield_parent()
    while True:
        print(json.dumps([clock(), asdict(read_state(sys.argv[1]))]), flush=True)
        time.sleep(_INTERVAL)


def _known(average: Callable[[Sequence[float]], float], values: Sequence[float | None]) -> float | None:
    """The average of the values that are known, None if there is none."""
    known = [value for value in values if value is not None]
    return average(known) if known else None


def _because(state: GpuState) -> str:
    return f" ({', '.join(state.reasons)})" if state.reasons else ""
