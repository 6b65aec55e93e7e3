from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from flair_ingestion.limits import (
    TimeLimit,
    exceeded,
    needs_another_attempt,
    read_limits,
    scatter_problem,
    shifted,
    stop_seconds,
    time_limits,
)
from flair_scoring.base.errors import UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_the_shipped_limits_are_flair_2s() -> None:
    limits = read_limits()
    assert (limits.ratio, limits.seconds, limits.calibration_patches) == (2.5, None, 512)
    assert (limits.load_seconds, limits.warmup_seconds, limits.request_seconds) == (120, 180, 60)
    assert (limits.wall_seconds, limits.submission_mib, limits.memory_gib) == (7200, 1024, 32)
    assert (limits.request_mib, limits.scratch_gib) == (1024, 4)


def test_a_file_and_options_replace_what_they_name(tmp_path: Path) -> None:
    limits = read_limits(write(tmp_path, "seconds: 900\nload_seconds: 5")).with_options(1.5, None)
    assert (limits.ratio, limits.seconds, limits.load_seconds, limits.request_seconds) == (1.5, 900, 5, 60)
    assert limits.with_options(0, 3.5).ratio is None
    assert limits.with_options(0, 3.5).seconds == 3.5


def test_all_mistakes_of_a_file_are_told_with_the_nearest_key(tmp_path: Path) -> None:
    text = "warmup_second: 3\nratio: fast\ncalibration_patches: 1.5\nload_seconds: 0\nmemory_gib: yes\n"
    with pytest.raises(UsageError) as caught:
        read_limits(write(tmp_path, text + "wall_seconds:"))
    for problem in (
        "unknown key 'warmup_second'; the nearest is 'warmup_seconds'",
        "ratio is 'fast'; expected a number above 0",
        "calibration_patches is 1.5; expected a whole number",
        "load_seconds is 0; expected a number above 0",
        "memory_gib is True",
        "wall_seconds is None",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize("key", ["batch_size", "gpu", "x", "2024-01-01", "true"])
def test_a_key_that_resembles_none_gets_the_list_of_keys(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match=r"unknown key '[^']+'; the keys are ratio, seconds, .*scratch_gib"):
        read_limits(write(tmp_path, f"{key}: 3"))


@pytest.mark.parametrize("text", ["- 1", "a: [", "", "just text", "ratio: 2027-13-01", "[" * 5000])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        read_limits(write(tmp_path, text))


def test_a_file_of_limits_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml: cannot be read \(No such file or directory\)"):
        read_limits(tmp_path / "gone.yaml")
    with pytest.raises(UsageError, match=r"load_seconds is 1000+; expected a number above 0"):
        read_limits(write(tmp_path, f"load_seconds: 1{'0' * 400}"))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_an_option_without_sense_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="--limit-ratio"):
        read_limits().with_options(value, None)
    with pytest.raises(UsageError, match="--limit-seconds"):
        read_limits().with_options(None, value)


def test_both_limits_apply_with_their_own_grey_zones() -> None:
    limits = time_limits(read_limits().with_options(2.0, 30.0), reference_seconds=10.0, standard_error=0.04)
    assert [(limit.seconds, limit.grey) for limit in limits] == [(20.0, 0.08), (30.0, 0.03)]
    assert stop_seconds(limits) == pytest.approx(21.6)
    assert exceeded(19.9, limits) is None
    assert exceeded(35.0, limits) is limits[0]
    assert [limit.relative for limit in limits] == [True, False]
    assert time_limits(read_limits().with_options(0, None), None, 0.0) == []
    assert stop_seconds([]) == float("inf")


def test_no_grey_zone_is_wider_than_ten_per_cent_and_a_wider_scatter_is_told() -> None:
    (limit,) = time_limits(read_limits().with_options(2.0, None), reference_seconds=10.0, standard_error=0.06)
    assert limit.grey == 0.10
    assert scatter_problem(0.05) is None
    assert "uncertain by 12% (two standard errors over its blocks)" in str(scatter_problem(0.06))


def test_limits_move_with_the_reference() -> None:
    limits = time_limits(read_limits().with_options(2.0, 30.0), reference_seconds=10.0, standard_error=0.0)
    assert [limit.seconds for limit in shifted(limits, 1.1)] == [pytest.approx(22.0), 30.0]
    assert shifted(limits, None) == limits


def test_three_attempts_at_most_decide_by_their_median() -> None:
    """Against the rule in words: if the first is within +-3 %, measure three times and take the median."""
    limits = [TimeLimit(10.0, 0.03, "10 s")]
    for first, second, third in itertools.product(
        (9.5, 9.8, 10.0, 10.2, 10.4), (9.0, 9.9, 10.1, 12.0), (9.9, 10.1)
    ):
        attempts = [first]
        for further in (second, third):
            if needs_another_attempt(attempts, limits):
                attempts.append(further)
        assert not needs_another_attempt(attempts, limits)
        grey = 9.7 <= first <= 10.3
        assert (len(attempts) > 1) is grey
        expected = statistics.median((first, second, third)) if grey else first
        counted = sorted(attempts)[len(attempts) // 2]
        assert (exceeded(counted, limits) is None) is (expected <= 10.0)


def test_a_limit_that_is_there_twice_and_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3: the key 'ratio' occurs a second time, after line 1"):
        read_limits(write(tmp_path, "ratio: 2\nseconds: 5\nratio: 3\n"))
    path = tmp_path / "latin.yaml"
    path.write_bytes("ratio: 2  # réglé\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml: line 1 is not UTF-8 \(byte 0xe9\); save the file as"):
        read_limits(path)
