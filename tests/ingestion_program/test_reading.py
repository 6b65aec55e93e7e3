"""This process, and others that read ahead, make the same requests; and faults are told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from holders import has_ended
from test_processors import write_topology

from flair_ingestion import reading
from flair_ingestion.dataset import Patch, index_patches, read_image
from flair_ingestion.processes.process_tree import children
from flair_ingestion.reading import AHEAD, Readers, read_here, start_readers
from flair_ingestion.sandbox.runner import map_request, read_batch
from flair_ingestion.shared_memory import SealedRequest, request_bytes
from flair_scoring.base.errors import DataError, UsageError

LARGEST = request_bytes(4, 10, 110)  # bytes of four patches, with windows and series as they occur here


def images(requests: Iterator[SealedRequest]) -> list[np.ndarray]:
    return [read_batch(map_request(request.descriptor))["aerial"].numpy() for request in requests]


def split(patches: list[Patch], size: int) -> list[list[Patch]]:
    return [patches[start : start + size] for start in range(0, len(patches), size)]


@pytest.fixture
def patches(flair_tree: Path) -> list[Patch]:
    return index_patches(flair_tree, "test")


@pytest.mark.parametrize("size", [1, 4])
def test_readers_give_the_same_requests_in_the_same_order(patches: list[Patch], size: int) -> None:
    groups = split(patches, size)
    readers = Readers(2, None)
    try:
        found = [images(read_here(groups, 10)), images(readers.read(groups, 10, LARGEST))]
    finally:
        readers.close()
    for one, other, group in zip(*found, groups, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, np.stack([read_image(patch) for patch in group]))


@pytest.mark.parametrize("count", [1, 2])
def test_damage_is_told_when_its_request_comes(flair_tree: Path, tmp_path: Path, count: int) -> None:
    shutil.copytree(flair_tree, tmp_path / "data")
    patches = index_patches(tmp_path / "data", "test")
    Path(patches[3].image).write_bytes(b"II*\0")
    readers = Readers(count, None)
    try:
        requests = readers.read(split(patches, 1), 10, LARGEST)
        for _ in range(3):
            next(requests).close()
        with pytest.raises(DataError, match=Path(patches[3].image).name):
            next(requests)
    finally:
        readers.close()


def test_a_reader_that_dies_ends_the_run_with_a_sentence(patches: list[Patch]) -> None:
    readers = Readers(1, None)
    try:
        requests = readers.read(split(patches, 1), 10, LARGEST)
        next(requests).close()
        readers._processes[0].kill()
        with pytest.raises(UsageError, match="a process that reads the data has ended"):
            images(requests)
    finally:
        readers.close()


def test_a_reader_that_is_dead_from_the_start_ends_the_run_with_a_sentence(patches: list[Patch]) -> None:
    readers = Readers(1, None)
    try:
        readers._processes[0].kill()
        readers._processes[0].wait()
        with pytest.raises(UsageError, match="a process that reads the data has ended"):
            images(readers.read(split(patches * 10_000, 1), 10, LARGEST))  # more than fits in a pipe
    finally:
        readers.close()


def count_waiting(readers: Readers) -> int:
    """How many requests the readers have ready in the end, if none of these is taken."""
    received: list[bytes] = []
    end = time.monotonic() + 5
    for channel in readers._channels:
        channel.settimeout(max(end - time.monotonic(), 0.1))
        with suppress(TimeoutError):
            while message := socket.recv_fds(channel, 100, 1)[0]:  # received, but not reported as taken
                received.append(message)
    return sum(b"count" in message for message in received)


def test_readers_read_a_few_requests_ahead_and_no_more(patches: list[Patch]) -> None:
    readers = Readers(1, None)
    try:
        requests = readers.read(split(patches, 1), 10, LARGEST)
        next(requests).close()
        assert count_waiting(readers) == AHEAD < len(patches) - 1
    finally:
        readers.close()


@pytest.mark.parametrize(("allowed", "reading"), [(2, 2), (9, 3)])
def test_no_more_readers_read_than_the_memory_holds(
    patches: list[Patch], monkeypatch: pytest.MonkeyPatch, allowed: int, reading: int
) -> None:
    monkeypatch.setattr("flair_ingestion.reading.READ_AHEAD_BYTES", (allowed + 1) * 3 * LARGEST - 1)
    readers = Readers(3, None)
    try:
        requests = readers.read(split(patches * 5, 1), 10, LARGEST)
        found = [next(requests) for _ in range(6)]
        images(iter(found))
        assert count_waiting(readers) == reading * AHEAD
    finally:
        readers.close()


def test_the_largest_requests_that_are_allowed_fit_into_the_bound() -> None:
    """With 16 processors, 12 of them for readers, that is 22 GiB of requests without a bound."""
    largest = request_bytes(32, 110, 110)
    assert 900 < largest / 2**20 < 1024
    for readers in (1, 2, 12, 200):
        used = reading._count_that_fit(readers, largest)
        assert used * (AHEAD + 1) * largest <= 8 * 2**30
        assert used == min(readers, 2)
    assert reading._count_that_fit(12, 2**40) == 1
    assert reading._count_that_fit(12, request_bytes(32, 40, 110)) == 12


def test_nothing_is_left_of_them(patches: list[Patch]) -> None:
    before, processors, files = (
        children(os.getpid()),
        os.sched_getaffinity(0),
        len(os.listdir("/proc/self/fd")),
    )
    with start_readers() as readers:
        requests = readers.read(split(patches, 1), 10, LARGEST)
        next(requests).close()
    assert children(os.getpid()) == before
    assert os.sched_getaffinity(0) == processors
    assert len(os.listdir("/proc/self/fd")) == files


def test_readers_have_processors_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine that has too few to give some to the readers. No core has two threads here."""
    nowhere = tmp_path / "nowhere"
    given: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: given.update({pid: set(processors)}))
    with start_readers(nowhere, nowhere) as readers:
        pids = [process.pid for process in readers._processes]
        assert len(pids) == 12
        assert {pid: given[pid] for pid in pids} == {pid: set(range(4, 16)) for pid in pids}
        assert given[0] == set(range(4))
    assert given[0] == set(range(16))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    given.clear()
    with start_readers(nowhere, nowhere) as readers:
        pids = [process.pid for process in readers._processes]
        assert [os.sched_getscheduler(pid) for pid in pids] == [os.SCHED_IDLE] * 2
    assert given == {}


def test_threads_of_the_submissions_cores_stay_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 processors on 8 cores, and a quota of 7 processors."""
    given: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: given.update({pid: set(processors)}))
    write_topology(tmp_path, [f"{index % 8},{index % 8 + 8}" for index in range(16)])
    (tmp_path / "cpu.max").write_text("700000 100000\n")
    with start_readers(tmp_path, tmp_path / "cpu.max") as readers:
        pids = [process.pid for process in readers._processes]
        assert len(pids) == 3
        assert given == {0: {0, 1, 2, 3}} | {pid: {4, 5, 6, 7, 12, 13, 14, 15} for pid in pids}
    assert given[0] == set(range(16))


def states(pids: Sequence[int | str]) -> list[str]:
    return [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids]


def test_readers_without_processors_of_their_own_rest_while_the_submission_works(
    patches: list[Patch],
) -> None:
    readers = Readers(2, None)
    pids = [process.pid for process in readers._processes]
    try:
        requests = readers.read(split(patches * 50, 1), 10, LARGEST)
        for _ in range(20):
            request = next(requests)
            with readers.at_rest():
                assert states(pids) == ["T", "T"]
                seen = [Path(f"/proc/{pid}/stat").read_text() for pid in pids]
                time.sleep(0.01)
                assert [Path(f"/proc/{pid}/stat").read_text() for pid in pids] == seen  # no time was used
            assert "T" not in states(pids)
            request.close()
    finally:
        readers.close()


def test_readers_with_processors_of_their_own_go_on(patches: list[Patch]) -> None:
    readers = Readers(1, os.sched_getaffinity(0))
    try:
        with readers.at_rest():
            assert states([readers._processes[0].pid]) != ["T"]
    finally:
        readers.close()


def test_a_reader_that_has_died_does_not_keep_the_others_from_resting(patches: list[Patch]) -> None:
    readers = Readers(2, None)
    try:
        requests = readers.read(split(patches * 50, 1), 10, LARGEST)
        next(requests).close()
        readers._processes[0].kill()
        with readers.at_rest():
            assert states([readers._processes[1].pid]) == ["T"]
    finally:
        readers.close()


def test_readers_at_rest_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = """
import os, signal
from flair_ingestion.reading import Readers
readers = Readers(2, None)
next(readers.read([], 10, 1), None)
with readers.at_rest():
    print(*(process.pid for process in readers._processes), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "pids").open("w") as said:
        subprocess.run([sys.executable, "-c", program], stdout=said, env=environment, timeout=60)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while not all(map(has_ended, pids)):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.01)


def test_series_are_read_whole_only_where_many_patches_need_them(
    patches: list[Patch], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(reading, "read_ahead", read.append)
    monkeypatch.setattr(reading, "_PATCHES_THAT_PAY", 2)
    for request in read_here(split(patches, 4), 10):
        request.close()
    areas = sorted({repr(patch.super_area) for patch in patches})
    assert sorted(map(repr, read)) == areas
    read.clear()
    for number in range(2):
        for request in read_here(split(patches, 1), 10, number, readers=2):
            request.close()
        assert len(read) < len(areas) or number == 1  # each of them reads its part of the areas
    assert sorted(map(repr, read)) == areas
    read.clear()
    for request in read_here(split(patches[:1] + patches[2:3], 1), 10):
        request.close()
    assert read == []
