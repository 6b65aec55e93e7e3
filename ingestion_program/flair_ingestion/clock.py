"""The clock of inference times and of the deadlines of a submission: seconds on CLOCK_MONOTONIC_RAW.

Nobody can set this clock, and time synchronisation (NTP) does not speed it up or slow it down, as it does
with CLOCK_MONOTONIC, which time.perf_counter reads. All processes of a machine read the same value.
"""

from __future__ import annotations

import time


def clock() -> float:
    """Seconds since an arbitrary moment; only differences between two values have a meaning."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
