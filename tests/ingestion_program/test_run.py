"""Verdict and reference, with times that are given instead of measured."""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from flair_ingestion import reference, run
from flair_ingestion.dataset import index_patches
from flair_ingestion.devices import device as devices
from flair_ingestion.devices import floor
from flair_ingestion.devices.device import Device
from flair_ingestion.devices.nvidia import Bandwidth, GpuState, Use
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Conditions
from flair_ingestion.predictions import Predictions, Spool
from flair_ingestion.reference import time_reference
from flair_ingestion.run import Plan, run_ingestion
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import FlairError, SubmissionError, TimeLimitError, UsageError

CPU = Device("cpu", "a processor", None, {"cores": 2})
CORNER = 50  # pixels


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "model.py").write_text("class Model: ...")
    return folder


def conditions(**options: Any) -> Conditions:
    return Conditions(CPU, read_limits().with_options(**options), math.inf, "none", [5])


def measure_as(*runs: list[float]) -> Callable[..., None]:
    """A stand-in for `measure` with given latencies; one patch per request. The harness takes 1 ms.

    The labels of the attempt number n, from 0, are n in a corner and 12 elsewhere.
    """
    remaining = iter(enumerate(runs))

    def measure(
        submission: Any, patches: Any, conditions: Any, attempt: Any, *rest: Any, **options: Any
    ) -> None:
        if options.get("title") == "overhead":
            number, latencies = 0, [0.001]
        else:
            number, latencies = next(remaining)
        attempt.latencies += latencies
        attempt.counts += [1] * len(attempt.latencies)
        attempt.completed = True
        if deliver := (rest[1] if len(rest) > 1 else None):
            labels = np.full((len(patches), 512, 512), 12, np.uint8)
            labels[:, :CORNER, :CORNER] = number
            deliver(patches, labels)

    return measure


def labels_of(predictions: Predictions) -> set[int]:
    """The labels in their corners."""
    return {int(rasterio.open(io.BytesIO(encoded)).read(1)[0, 0]) for _, encoded in predictions}


def ingest(
    submission: Path, data: Path, conditions: Conditions, **plan: Any
) -> tuple[dict[str, Any], set[int] | None, FlairError | None]:
    """The result of a run: content of timing.json, labels in the corners (None: no predictions), error."""
    chosen = Plan(submission, **({"reference": None, "order_seed": 7} | plan))
    patches = index_patches(data, "test")
    with Spool(len(patches), conditions.limits.max_attempts) as spool:
        result = run_ingestion(chosen, patches, conditions, spool)
        labels = None if result.predictions is None else labels_of(result.predictions)
    return result.timing, labels, result.error


@pytest.mark.parametrize(
    ("seconds", "verdict", "counted"),
    [
        ([5.0], "within_limit", 0),
        ([9.9, 9.8], "within_limit", 0),
        ([9.8, 9.9], "within_limit", 1),
        ([10.1, 9.9, 9.8], "within_limit", 1),
        ([10.1, 9.8, 9.9], "within_limit", 2),
        ([9.9, 10.1, 10.2], "over_limit", 1),
        ([10.2, 10.1], "over_limit", 0),
        ([11.0], "over_limit", 0),
    ],
)
def test_a_time_in_the_grey_zone_is_measured_again_and_the_median_counts_with_its_own_labels(
    monkeypatch: pytest.MonkeyPatch,
    submission: Path,
    flair_tree: Path,
    seconds: list[float],
    verdict: str,
    counted: int,
) -> None:
    monkeypatch.setattr(run, "measure", measure_as(*([one] for one in seconds)))
    limited = conditions(ratio=0, seconds=10.0)
    timing, labels, error = ingest(submission, flair_tree, limited)
    if verdict == "within_limit":
        assert error is None
    else:
        assert isinstance(error, TimeLimitError)
        assert "the limit is 10 s" in str(error)
    assert timing["verdict"] == verdict
    assert timing["inference_seconds"] == seconds[counted]
    assert [attempt["inference_seconds"] for attempt in timing["attempts"]] == seconds
    assert labels == ({counted} if verdict == "within_limit" else None)


@pytest.mark.parametrize(
    ("seconds", "corner", "reason"),
    [
        (
            [10.1, 0.004, 0.006],
            CORNER,
            "the submission's attempts took 10.1, 0.004, 0.006 s; the same patches must take",
        ),
        (
            [9.9, 7.8],
            CORNER,
            "the submission's attempts took 9.9, 7.8 s; the same patches must take the same time",
        ),
        ([9.9, 8.0], CORNER, None),
        (
            [9.9, 9.9],
            200,
            "the submission's attempts differ in 15.3% of the pixels; the same patches must get",
        ),
        ([9.9, 9.9], 110, None),
    ],
)
def test_attempts_that_do_other_work_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    submission: Path,
    flair_tree: Path,
    seconds: list[float],
    corner: int,
    reason: str | None,
) -> None:
    """The first attempt is near the limit; later ones that can tell answer something else, or at once."""
    monkeypatch.setattr(f"{__name__}.CORNER", corner)
    monkeypatch.setattr(run, "measure", measure_as(*([one] for one in seconds)))
    limited = conditions(ratio=0, seconds=10.0)
    timing, labels, error = ingest(submission, flair_tree, limited)
    if reason is None:
        assert (timing["verdict"], error) == ("within_limit", None)
        return
    assert isinstance(error, SubmissionError)
    assert reason in str(error)
    assert (timing["verdict"], labels) == ("failed", None)


def test_all_attempts_get_the_patches_in_one_order_which_the_seed_repeats(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path
) -> None:
    orders: list[list[str]] = []
    stand_in = measure_as(*[[9.9], [10.1], [9.9]] * 3)

    def measure(submission: Any, patches: Any, *rest: Any, **options: Any) -> None:
        orders.append([patch.id for patch in patches])
        stand_in(submission, patches, *rest, **options)

    monkeypatch.setattr(run, "measure", measure)
    for seed in (7, 7, 8):
        timing, _, _ = ingest(submission, flair_tree, conditions(ratio=0, seconds=10.0), order_seed=seed)
        assert timing["order_seed"] == seed
    assert orders[:3] == [orders[0]] * 3
    assert orders[3:6] == [orders[0]] * 3
    assert orders[6] != orders[0]
    assert sorted(orders[6]) == sorted(orders[0])


# Seconds of the reference for 6 patches before the submission and after it, seconds of the submission
DRIFTS = {
    "steady": ([1.0] * 6, [[1.01] * 6], 14.0, None),
    "faster, verdict the same": ([1.0] * 6, [[0.8] * 6], 11.0, None),
    "faster, verdict turns": ([1.0] * 6, [[0.8] * 6], 14.0, "0.8 times as long"),
    "slower, verdict the same": ([1.0] * 6, [[1.2] * 6], 20.0, "over_limit"),
    "slower, verdict turns": ([1.0] * 6, [[1.2] * 6], 16.0, "1.2 times as long"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_a_reference_that_has_shifted_voids_a_verdict_that_would_turn(
    name: str, monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path
) -> None:
    before, after, seconds, end = DRIFTS[name]
    monkeypatch.setattr(reference, "measure", measure_as(before, *after))
    monkeypatch.setattr(run, "measure", measure_as([seconds]))
    arguments = (submission, flair_tree, conditions(ratio=2.5, seconds=None))
    opened = open_submission(submission, 1)
    if end not in (None, "over_limit"):  # a verdict that is void leaves no output
        told = f"the reference takes {end} after the submission as before it"
        with pytest.raises(UsageError, match=re.escape(told)):
            ingest(*arguments, reference=opened)
        return
    timing, labels, error = ingest(*arguments, reference=opened)
    assert labels == ({0} if end is None else None)
    assert isinstance(error, TimeLimitError) is (end == "over_limit")
    assert timing["reference_drift"] == pytest.approx(after[0][0])


@pytest.mark.parametrize(("answered", "void"), [(0, False), (3, False), (5, True)])
def test_a_submission_that_was_stopped_is_judged_by_its_pace_where_the_reference_has_shifted(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, answered: int, void: bool
) -> None:
    """Its time until then is that of the limit; with all but one of 6 patches done it might have kept it."""

    def stop(submission: Any, patches: Any, conditions: Any, attempt: Any, *rest: Any) -> None:
        attempt.latencies += [15.5]
        attempt.counts += [1] * answered
        raise TimeLimitError("stopped")

    monkeypatch.setattr(reference, "measure", measure_as([1.0] * 6, [1.2] * 6))
    monkeypatch.setattr(run, "measure", stop)
    opened, relative = open_submission(submission, 1), conditions(ratio=2.5, seconds=None)
    if void:
        with pytest.raises(UsageError, match="the verdict would be another one"):
            ingest(submission, flair_tree, relative, reference=opened)
        return
    _, _, error = ingest(submission, flair_tree, relative, reference=opened)
    assert isinstance(error, TimeLimitError)
    assert str(error) == "stopped"


def test_without_time_left_for_the_reference_the_verdict_stands(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = measure_as([1.0] * 6)

    def measure(*arguments: Any, **options: Any) -> None:
        try:
            stand_in(*arguments, **options)
        except StopIteration:  # the second time
            raise TimeLimitError("the time for the whole run is over") from None

    monkeypatch.setattr(reference, "measure", measure)
    monkeypatch.setattr(run, "measure", measure_as([14.0]))
    opened, relative = open_submission(submission, 1), conditions(ratio=2.5, seconds=None)
    timing, _, _ = ingest(submission, flair_tree, relative, reference=opened)
    assert (timing["verdict"], timing["reference_drift"]) == ("within_limit", None)
    assert "no time was left (wall_seconds) to time the reference once more" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [5.0, 99.0])
def test_a_gpu_that_others_use_at_the_end_voids_the_run(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, seconds: float
) -> None:
    monkeypatch.setattr(run, "measure", measure_as([seconds]))
    monkeypatch.setattr(run, "overwrite_gpu_memory", lambda _: None)
    monkeypatch.setattr(devices, "_BUSY_CHECKS", 1)
    monkeypatch.setattr(devices.nvidia, "read_use", lambda uuid: Use(97, [4711]))
    gpu = Device("cuda", "NVIDIA H200", "GPU-bbbb", {"cores": 2, "uuid": "GPU-bbbb"})
    limited = replace(conditions(ratio=0, seconds=10.0), device=gpu)
    with pytest.raises(UsageError, match=r"H200 is busy \(97 %, processes 4711\); perhaps it was during"):
        ingest(submission, flair_tree, limited)


def test_how_the_gpu_ran_is_told_of_reference_and_submission(
    monkeypatch: pytest.MonkeyPatch,
    submission: Path,
    flair_tree: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also when the reference's time comes from the cache."""
    fast, slow = GpuState(1980, 600.0, []), GpuState(1410, 500.0, ["heat"])

    def measure_at(state: GpuState, *runs: list[float]) -> Callable[..., None]:
        measure = measure_as(*runs)

        def measure_and_look(
            one: Any, patches: Any, given: Any, attempt: Any, *rest: Any, **options: Any
        ) -> None:
            measure(one, patches, given, attempt, *rest, **options)
            attempt.gpu = state

        return measure_and_look

    monkeypatch.setattr(reference, "measure", measure_at(fast, *[[1.0] * 6] * 3))
    monkeypatch.setattr(run, "measure", measure_at(slow, [6.0], [6.0]))
    baseline = open_submission(submission, 100)
    for _ in range(2):
        timing, _, _ = ingest(
            submission,
            flair_tree,
            conditions(ratio=2.0, seconds=None),
            reference=baseline,
            cache=tmp_path / "cache",
        )
        assert timing["reference_gpu"] == asdict(fast)
        assert timing["attempts"][0]["gpu"] == asdict(slow)
        told = "the GPU ran at 1410 MHz for the submission (heat) and at 1980 MHz for the reference"
        assert f"warning: {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "told"), [(0.06, True), (0.08, False)])
def test_a_time_that_is_shorter_than_the_gpus_links_allow_is_told(
    monkeypatch: pytest.MonkeyPatch,
    submission: Path,
    flair_tree: Path,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
    told: bool,
) -> None:
    """Six patches of 1.31 MB at 1 GB/s are 7.9 ms; six times 10 MB of weights at 1 GB/s are 60 ms."""
    (submission / "weights.bin").write_bytes(bytes(10_000_000))
    monkeypatch.setattr(run, "measure", measure_as([seconds / 6] * 6))
    monkeypatch.setattr(run, "overwrite_gpu_memory", lambda _: None)
    monkeypatch.setattr(floor, "read_bandwidth", lambda uuid: Bandwidth(1e9, 1e9))
    gpu = Device("cuda", "NVIDIA H200", "GPU-bbbb", {"cores": 2})
    limited = replace(conditions(ratio=0, seconds=10.0), device=gpu)
    timing, _, error = ingest(submission, flair_tree, limited)
    assert timing["floor_seconds"] == pytest.approx(0.0679, rel=1e-3)
    assert (timing["verdict"], error) == ("within_limit", None)
    sentence = (
        f"warning: {seconds} s of inference; this GPU takes 0.06786 s only to receive the aerial images"
    )
    assert (sentence in capsys.readouterr().err) == told


def test_without_a_gpu_no_time_is_too_short(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path
) -> None:
    monkeypatch.setattr(run, "measure", measure_as([1e-9]))
    timing, _, _ = ingest(submission, flair_tree, conditions(ratio=0, seconds=10.0))
    assert timing["floor_seconds"] is None


def test_attempts_that_differ_because_the_machine_does_are_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path
) -> None:
    monkeypatch.setattr(reference, "measure", measure_as([1.0] * 6, [1.4] * 6))
    monkeypatch.setattr(run, "measure", measure_as([14.9], [9.0]))
    opened, relative = open_submission(submission, 1), conditions(ratio=2.5, seconds=None)
    with pytest.raises(UsageError, match=r"took 14\.9, 9 s, and the reference has changed as well"):
        ingest(submission, flair_tree, relative, reference=opened)


def test_a_reference_that_scatters_too_much_ends_the_run_on_the_platform_and_warns_at_home(
    monkeypatch: pytest.MonkeyPatch, submission: Path, flair_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, relative = open_submission(submission, 1), conditions(ratio=2.5, seconds=None)
    scattered = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    for strict in (True, False):
        monkeypatch.setattr(reference, "measure", measure_as(scattered, scattered))
        monkeypatch.setattr(run, "measure", measure_as([9.0]))
        if strict:
            with pytest.raises(UsageError, match="the reference's time is uncertain by 30%"):
                ingest(submission, flair_tree, relative, reference=opened, strict=True)
        else:
            timing, _, _ = ingest(submission, flair_tree, relative, reference=opened)
            assert timing["grey_zone"] == 0.10
            assert "warning: the reference's time is uncertain by 30%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "patches", "seconds"),
    [
        ([1] * 100, 64, 64.0),
        ([10] * 10, 70, 7.0),
        ([1] * 5, 5, 5.0),
        ([32, 32, 32], 64, 2.0),
        ([10], 10, 1.0),
    ],
)
def test_the_drift_is_measured_on_whole_requests_that_cover_64_patches(
    counts: list[int], patches: int, seconds: float
) -> None:
    attempt = run.Attempt(latencies=[1.0] * len(counts), counts=counts)
    assert reference._first_patches(attempt) == (patches, seconds)


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
    assert (timed.first_patches, timed.first_seconds) == (6, pytest.approx(2.1))


def test_blocks_are_means_over_patches() -> None:
    attempt = run.Attempt(latencies=[2.0] * 8 + [4.0] * 8, counts=[4] * 8 + [2] * 8)
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
