"""How the GPU runs: another process looks at it, its states are summarised and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from holders import has_ended
from nvidia_driver import Driver

from flair_ingestion.clock import clock
from flair_ingestion.devices import gpu_states
from flair_ingestion.devices.gpu_states import GpuWatch, describe_difference, summarise, watch_gpu
from flair_ingestion.devices.nvidia import GpuState
from flair_ingestion.processes.process_tree import children
from programs import wait_until


def wait_for_looks(watch: GpuWatch, begin: float, clock_mhz: float) -> GpuState:
    """The state since `begin`, as soon as all looks since then have seen this clock."""
    for _ in range(600):
        state = watch.between(begin, clock())
        if state and state.clock_mhz == clock_mhz:
            return state
        time.sleep(0.1)
    raise AssertionError("the GPU was not looked at")


def test_only_the_asked_time_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(tmp_path / "driver", monkeypatch, "library")
    with watch_gpu("GPU-bbbb", None) as watch:
        first = clock()
        assert wait_for_looks(watch, first, 1980) == GpuState(1980, 70.25, [])
        assert watch.between(0, first - 1000) is None
        driver.set(1, clock=1200, milliwatts=700_000, reasons=0x4)
        time.sleep(1)  # a look that began before sees the old state
        assert wait_for_looks(watch, clock(), 1200) == GpuState(1200, 700, ["power limit"])


def test_nothing_is_left_of_the_process_that_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(tmp_path / "driver", monkeypatch, "library")
    before, files = children(os.getpid()), len(os.listdir("/proc/self/fd"))
    with watch_gpu("GPU-bbbb", {min(os.sched_getaffinity(0))}) as watch:
        wait_for_looks(watch, 0, 1980)
    assert children(os.getpid()) == before
    assert len(os.listdir("/proc/self/fd")) == files


DIES = """
import os, signal
from flair_ingestion.devices.gpu_states import watch_gpu
from flair_ingestion.processes.process_tree import children
with watch_gpu("GPU-bbbb", None):
    print(*children(os.getpid()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_that_looks_ends_if_its_parent_dies_before_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with -9, the parent can end nothing; the other process is still importing its modules then."""
    Driver(tmp_path / "driver", monkeypatch, "library")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "pids").open("w") as said:
        subprocess.run([sys.executable, "-c", DIES], stdout=said, env=environment, timeout=60)
    (pid,) = map(int, (tmp_path / "pids").read_text().split())
    try:
        wait_until(lambda: has_ended(pid))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    state = '{"clock_mhz": 100, "power_watts": null, "reasons": []}'
    seen.write_text(f'[1.0, {state}]\n[2.0, {state}]\n[3.0, {{"clock_m')
    with seen.open("rb") as stream:
        assert GpuWatch(stream).between(0, 9, patches=4) == GpuState(100, None, [])


def test_energy_is_mean_power_times_the_whole_time(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    looks = [(1, 100.0), (2, 300.0), (3, 200.0), (50, 999.0)]
    lines = [[then, {"clock_mhz": 1, "power_watts": power, "reasons": []}] for then, power in looks]
    seen.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with seen.open("rb") as stream:
        assert GpuWatch(stream).between(0.5, 4.5, patches=20) == GpuState(1, 200, [], 200 * 4 / 20)
        assert GpuWatch(stream).between(0.5, 4.5) == GpuState(1, 200, [])


def test_averages_of_what_is_known_and_reasons_that_are_not_rare() -> None:
    states = [
        GpuState(100, None, []),
        GpuState(None, 30, ["heat"]),
        GpuState(300, 50, []),
        GpuState(200, 40, []),
    ]
    assert summarise(states) == GpuState(200, 40, ["heat"])
    assert summarise([*states, GpuState(200, 100, [])]) == GpuState(200, 55, ["heat"])
    assert summarise([*states * 3, *[GpuState(200, 40, [])] * 30]) == GpuState(200, 40, [])
    assert summarise([GpuState(None, None, [])]) == GpuState(None, None, [])
    assert summarise([]) is None


def test_another_clock_for_the_submission_is_told() -> None:
    fast, slow = GpuState(1980, 600, []), GpuState(1410, 500, ["heat", "power limit"])
    assert describe_difference(fast, slow) == (
        "the GPU ran at 1410 MHz for the submission (heat, power limit) and at 1980 MHz for the reference"
    )
    near = GpuState(1980 / (1 + gpu_states.MAX_CLOCK_DIFFERENCE) + 1, 600, [])
    for pair in [(fast, near), (near, fast), (None, slow), (fast, None), (GpuState(None, None, []), slow)]:
        assert describe_difference(*pair) is None
