"""Submission and readers share processors by cores, threads and quota, as hand-made files tell them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flair_ingestion.devices.processors import Division, divide_processors

TWO_THREADS = [f"{index % 8},{index % 8 + 8}" for index in range(16)]  # the numbers that Linux gives on a PC
NEIGHBOURS = [f"{index // 2 * 2}-{index // 2 * 2 + 1}" for index in range(16)]  # and in many virtual machines


def write_topology(folder: Path, siblings: Sequence[str]) -> None:
    """Files as in /sys/devices/system/cpu, for one processor after the other."""
    for index, text in enumerate(siblings):
        path = folder / f"cpu{index}" / "topology" / "thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(text + "\n")


@pytest.fixture
def cpu_max(tmp_path: Path) -> Path:
    """Where a quota would stand; the file does not exist."""
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("siblings", "ours", "readers_have"),
    [
        (TWO_THREADS, {0, 1, 2, 3}, {4, 5, 6, 7, 12, 13, 14, 15}),
        (NEIGHBOURS, {0, 2, 4, 6}, set(range(8, 16))),
        ([str(index) for index in range(16)], {0, 1, 2, 3}, set(range(4, 16))),
        ([f"{index // 4 * 4}-{index // 4 * 4 + 3}" for index in range(20)], {0, 4, 8, 12}, {16, 17, 18, 19}),
        (["0-1", "0-1", "2", "3", "4", "5,6", "5,6"], {0, 2, 3, 4}, {5, 6}),
    ],
)
def test_readers_share_no_core_with_the_submission(
    tmp_path: Path, cpu_max: Path, siblings: list[str], ours: set[int], readers_have: set[int]
) -> None:
    write_topology(tmp_path, siblings)
    found = divide_processors(range(len(siblings)), tmp_path, cpu_max)
    assert found == Division(ours, readers_have, len(readers_have))


@pytest.mark.parametrize("siblings", [["0,4", "1,5", "2,6", "3,7"] * 2, ["0"], ["0", "1", "2", "3"]])
def test_four_cores_leave_none_to_readers(tmp_path: Path, cpu_max: Path, siblings: list[str]) -> None:
    write_topology(tmp_path, siblings)
    everything = set(range(len(siblings)))
    assert divide_processors(everything, tmp_path, cpu_max) == Division(everything, set(), len(everything))


@pytest.mark.parametrize("siblings", [[], ["", "what", "0-", "1,x"] * 4])
def test_without_a_word_of_the_kernel_each_processor_is_a_core(
    tmp_path: Path, cpu_max: Path, siblings: list[str]
) -> None:
    write_topology(tmp_path, siblings)
    found = divide_processors({1, 3, 5, 7, 9, 11}, tmp_path, cpu_max)
    assert found == Division({1, 3, 5, 7}, {9, 11}, 2)


def test_only_processors_that_this_process_may_use_are_given(tmp_path: Path, cpu_max: Path) -> None:
    write_topology(tmp_path, TWO_THREADS)
    assert divide_processors({8, 1, 2, 3, 4, 12}, tmp_path, cpu_max) == Division({1, 2, 3, 4}, {8}, 1)


@pytest.mark.parametrize(
    ("text", "own", "readers"),
    [
        ("max 100000\n", True, 8),
        ("2000000 100000\n", True, 8),
        ("700000 100000\n", True, 3),
        ("550000 100000\n", True, 1),
        ("490000 100000\n", False, 4),
        ("100000 50000\n", False, 2),
        ("50000 100000\n", False, 1),
        ("\n", True, 8),
        ("max\n", True, 8),
    ],
)
def test_readers_stay_within_the_quota(
    tmp_path: Path, cpu_max: Path, text: str, own: bool, readers: int
) -> None:
    """Four processors of the quota are the submission's; with less, readers work while it stands still."""
    write_topology(tmp_path, TWO_THREADS)
    cpu_max.write_text(text)
    found = divide_processors(range(16), tmp_path, cpu_max)
    assert found.readers == readers
    assert found.ours == ({0, 1, 2, 3} if own else set(range(16)))
    assert bool(found.readers_have) is own
