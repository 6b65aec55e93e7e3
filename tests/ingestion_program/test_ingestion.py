"""Verdict and reference, with times that are given instead of measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flair_ingestion import ingestion, reference
from flair_ingestion.dataset import index_patches
from flair_ingestion.devices import Device
from flair_ingestion.ingestion import run_ingestion
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Conditions
from flair_ingestion.reference import time_reference
from flair_ingestion.submission import open_submission
from flair_scoring.errors import FlairError, TimeLimitError, UsageError

CPU = Device("cpu", "a processor", None, {"cores": 2})


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "model.py").write_text("class Model: ...")
    return folder


def conditions(**options: Any) -> Conditions:
    return Conditions(CPU, read_limits().with_options(**options), math.inf, "none", [5])


def measure_as(*runs: list[float]) -> Callable[..., None]:
    """A stand-in for `measure` with given latencies; one patch per request. The harness takes 1 ms."""
    remaining = iter(runs)

    def measure(
        submission: Any, patches: Any, conditions: Any, attempt: Any, *rest: Any, **options: Any
    ) -> None:
        attempt.latencies += [0.001] if options.get("title") == "overhead" else next(remaining)
        attempt.counts += [1] * len(attempt.latencies)
        attempt.completed = True
        if deliver := (rest[1] if len(rest) > 1 else None):
            deliver(patches, f"labels of {attempt.seconds} s")

    return measure


class KeptLabels(list):
    def __enter__(self) -> KeptLabels:
        return self

    def __exit__(self, *error: object) -> None: ...

    def add(self, patches: Any, labels: Any) -> None:
        self.append(labels)


@pytest.mark.parametrize(
    ("seconds", "verdict", "counted"),
    [
        ([5.0], "within_limit", 5.0),
        ([9.9, 9.8], "within_limit", 9.9),
        ([10.1, 9.9, 9.8], "within_limit", 9.9),
        ([9.9, 10.1, 10.2], "over_limit", 10.1),
        ([10.2, 10.1], "over_limit", 10.2),
        ([11.0], "over_limit", 11.0),
    ],
)
def test_a_time_in_the_grey_zone_is_measured_again_and_the_median_counts(
    monkeypatch: pytest.MonkeyPatch,
    submission: Path,
    flair_tree: Path,
    seconds: list[float],
    verdict: str,
    counted: float,
) -> None:
    monkeypatch.setattr(ingestion, "measure", measure_as(*([one] for one in seconds)))
    monkeypatch.setattr(ingestion, "Spool", KeptLabels)
    written: list[tuple[dict[str, Any], list[str] | None]] = []
    arguments = (submission, index_patches(flair_tree, "test"), conditions(ratio=0, seconds=10.0), None, None)

    def write(timing: dict[str, Any], spool: Any) -> None:
        written.append((timing, spool and list(spool)))

    if verdict == "within_limit":
        run_ingestion(*arguments, write)
    else:
        with pytest.raises(TimeLimitError, match="the limit is 10 s"):
            run_ingestion(*arguments, write)
    ((timing, labels),) = written
    assert timing["verdict"] == verdict
    assert timing["inference_seconds"] == counted
    assert [attempt["inference_seconds"] for attempt in timing["attempts"]] == seconds
    assert labels == ([f"labels of {seconds[0]} s"] if verdict == "within_limit" else None)


def test_the_reference_is_scaled_with_the_error_of_its_blocks(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path
) -> None:
    latencies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    monkeypatch.setattr(reference, "measure", measure_as(latencies))
    patches = index_patches(flair_tree, "test")
    timed = time_reference(
        open_submission(submission, 1), patches, conditions(ratio=None, seconds=None), None
    )
    assert timed.seconds_per_patch == pytest.approx(0.35)
    expected = statistics.stdev(latencies) / math.sqrt(6) / 0.35  # six requests are six blocks
    assert timed.standard_error == pytest.approx(expected)
    assert timed.patches == 6
    assert timed.overhead_seconds == 0.001


def test_blocks_are_means_over_patches() -> None:
    attempt = ingestion.Attempt(latencies=[2.0] * 8 + [4.0] * 8, counts=[4] * 8 + [2] * 8)
    mean, error = reference._mean_and_error(attempt)
    assert mean == pytest.approx(48 / 48)
    blocks = [0.5] * 4 + [2.0] * 4
    assert error == pytest.approx(statistics.stdev(blocks) / math.sqrt(8))


def test_the_cache_is_used_for_the_same_reference_on_the_same_device_only(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(reference, "measure", measure_as([1.0], [2.0], [3.0]))
    patches = index_patches(flair_tree, "test")

    def seconds(conditions: Conditions) -> float:
        opened = open_submission(submission, 1)
        return time_reference(opened, patches, conditions, tmp_path / "cache").seconds_per_patch

    here = conditions(ratio=None, seconds=None)
    elsewhere = Conditions(Device("cpu", "another", None, {"cores": 2}), *list(vars(here).values())[1:])
    assert [seconds(here), seconds(here), seconds(elsewhere), seconds(elsewhere)] == [1.0, 1.0, 2.0, 2.0]
    (submission / "model.py").write_text("class Model: pass")
    assert seconds(here) == 3.0


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[:-200],
    "another type": lambda text: text.replace('"seconds_per_patch": 1.0', '"seconds_per_patch": "fast"'),
    "no time": lambda text: text.replace('"seconds_per_patch": 1.0', '"seconds_per_patch": 0.0'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, tmp_path: Path, damage: str
) -> None:
    monkeypatch.setattr(reference, "measure", measure_as([1.0], [2.0]))
    arguments = (open_submission(submission, 1), index_patches(flair_tree, "test"))
    for expected in (1.0, 2.0, 2.0):
        timed = time_reference(*arguments, conditions(ratio=None, seconds=None), tmp_path)
        assert (timed.seconds_per_patch, timed.overhead_seconds) == (expected, 0.001)
        if expected == 1.0:
            (entry,) = tmp_path.glob("reference-*.json")
            text = entry.read_text()
            entry.write_text(DAMAGES[damage](text))
            assert entry.read_text() != text


def test_a_cache_that_cannot_be_made_is_refused_before_anything_is_timed(
    submission: Path, flair_tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    arguments = (open_submission(submission, 1), index_patches(flair_tree, "test"))
    with pytest.raises(UsageError, match=r"file: cannot be written to \(it is a file\)"):
        time_reference(*arguments, conditions(ratio=None, seconds=None), tmp_path / "file")


@pytest.mark.parametrize("error", [UsageError, TimeLimitError])
def test_no_failure_of_the_reference_is_the_submissions(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, error: type[FlairError]
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error("why")

    monkeypatch.setattr(reference, "measure", fail)
    patches = index_patches(flair_tree, "test")
    with pytest.raises(UsageError, match="why"):
        time_reference(open_submission(submission, 1), patches, conditions(ratio=None, seconds=None), None)
