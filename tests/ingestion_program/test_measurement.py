"""A whole run over real requests: what becomes of a submission that does not stand still."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entries import copy_submission

from flair_ingestion.dataset import Patch, index_patches
from flair_ingestion.devices.device import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Attempt, Conditions, measure, series_lengths
from flair_ingestion.processes import standstill
from flair_ingestion.processes.process_tree import ProcessStates, family
from flair_ingestion.processes.standstill import Gaps, Stop, stop_group, was_active
from flair_ingestion.reading import Groups, Readers, Requests, start_readers
from flair_ingestion.scheduling import current_scheduling, restore_scheduling
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import SubmissionError

CPU = Device("cpu", "a processor", None, {"cores": 2})


def run(name: str, folder: Path, data: Path, **options: Any) -> Attempt:
    """A run over all 6 test patches, one in each request unless the submission wants more."""
    patches, attempt = index_patches(data, "test"), Attempt()
    conditions = Conditions(CPU, read_limits(), math.inf, "none", series_lengths(patches))
    measure(open_submission(copy_submission(name, folder), 100), patches, conditions, attempt, **options)
    return attempt


def test_a_submission_that_is_often_not_still_is_refused(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Gaps.count
    monkeypatch.setattr(Gaps, "count", lambda gaps, confirmed, active: count(gaps, confirmed, True))
    with pytest.raises(
        SubmissionError, match=r"request 4 of 6: the submission did not stand still in 4 of 4 gaps"
    ):
        run("honest_constant", tmp_path, flair_tree)


@pytest.mark.parametrize(
    ("restless", "requests", "refused"),
    [(3, 6, False), (4, 6, True), (4, 400, False), (5, 400, True), (160, 16050, False), (161, 16050, True)],
)
def test_three_gaps_or_one_per_cent_may_be_restless(restless: int, requests: int, refused: bool) -> None:
    assert Gaps(total=requests, restless=restless).too_many(requests) is refused


def test_what_is_counted_of_a_gap() -> None:
    gaps = Gaps()
    for confirmed, active in ((True, False), (False, False), (True, True), (False, True), (True, None)):
        gaps.count(confirmed, active)
    assert (gaps.total, gaps.unconfirmed, gaps.active, gaps.restless) == (5, 2, 2, 3)
    assert gaps.accounted is False


def test_processor_time_counts_from_the_moment_the_clock_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process does not get the signal to its group, and works on while the parent looks."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)

    def look() -> list[ProcessStates]:
        before = time.clock_gettime(~process.pid << 3 | 2)
        while not process.poll() and time.clock_gettime(~process.pid << 3 | 2) < before + 0.03:
            if family(process.pid)[0].states[process.pid] == "T":
                break
            time.sleep(0.005)
        return family(process.pid)

    try:
        monkeypatch.setattr(standstill, "_signal_group", lambda group: None)
        stop = stop_group(process.pid, look, [process.pid])
        assert stop.confirmed
        assert stop.used is not None
        assert stop.used >= 0.03
        assert was_active(stop, [process.pid]) is True
    finally:
        process.kill()
        process.wait()


def test_what_makes_a_gap_active() -> None:
    mine = {os.getpid(): 1e9}  # another time than this process has used, so the gap seems to have changed it
    assert was_active(Stop([os.getpid()], True, mine, 0.0), [os.getpid()]) is True
    assert was_active(Stop([], True, {}, 0.02), []) is True
    assert was_active(Stop([], True, {}, 0.009), []) is False
    assert was_active(Stop([], True, None, None), []) is None


def test_what_has_slowed_the_clock_down_is_put_back_and_told(
    flair_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undo = "import os; os.setpriority(os.PRIO_PROCESS, 0, os.nice(1) - 1)"
    if subprocess.run([sys.executable, "-c", undo], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may not undo it")
    before = current_scheduling()

    def slow_down(patches: list[Patch], labels: np.ndarray) -> None:
        os.setpriority(os.PRIO_PROCESS, os.getpid(), min(before.nice + 3, 19))

    try:
        run("honest_constant", tmp_path, flair_tree, deliver=slow_down)
    finally:
        restore_scheduling(before)
    assert "warning: another process has slowed this one down: its niceness became" in capsys.readouterr().err


@contextmanager
def read_beside(_: Device) -> Iterator[tuple[Readers, None]]:
    with start_readers() as readers:
        yield readers, None


def test_labels_are_the_same_whoever_reads(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA other processes read; here they do so on the CPU."""

    def labels(folder: str) -> np.ndarray:
        found: list[np.ndarray] = []
        run("honest_numpy", tmp_path / folder, flair_tree, deliver=lambda _, new: found.append(new.copy()))
        return np.concatenate(found)

    expected = labels("here")
    monkeypatch.setattr("flair_ingestion.measurement.work_beside", read_beside)
    np.testing.assert_array_equal(labels("beside"), expected)


def test_readers_learn_how_large_a_request_can_be(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many bytes as the largest request takes, but for its header."""
    told: list[int] = []
    sizes: list[int] = []
    read = Readers.read

    def look(readers: Readers, groups: Groups, size: int, largest: int) -> Requests:
        told.append(largest)
        for request in read(readers, groups, size, largest):
            sizes.append(os.fstat(request.descriptor).st_size)
            yield request

    monkeypatch.setattr(Readers, "read", look)
    monkeypatch.setattr("flair_ingestion.measurement.work_beside", read_beside)
    run("honest_numpy", tmp_path, flair_tree)
    assert len(told) == 1
    assert max(sizes) <= told[0] < max(sizes) + 2**17
