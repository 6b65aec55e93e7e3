"""What each model costs: its time as a multiple of the reference's, measured by the ingestion program."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flair_baseline.evaluation import INGEST, run_program
from flair_baseline.model.views import VIEWS
from flair_baseline.packaging import Member, pack_ensemble, write_submission
from flair_baseline.planning.selection import EVERY, Key
from flair_ingestion.devices.device import choose_device
from flair_ingestion.limits import read_limits
from flair_ingestion.reference import harness_sha256, open_reference
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import write_file
from flair_scoring.outputs.ingestion_output import read_timing

NO_LIMIT = "1000000"  # times the reference: the time is measured, however long it is
SHORT = 5  # seconds of inference; what takes less is measured again
MOST_RUNS = 4
_FAILED = 3  # exit code of the ingestion program for a submission that exceeds its memory or a budget
MEASURED = ("none", EVERY)  # the time of other sets of views follows from their number


@dataclass(frozen=True)
class Clock:
    """How models are timed: `options` are those of ingest.py, `folder` keeps what was measured.

    A time of another machine or of other data is not taken over: `machine` is what `describe_machine`
    returns, `content` what `hash_patches` returns for the patches of the split.
    """

    data: Path
    folder: Path
    batch_size: int
    options: Sequence[str]
    machine: Sequence[Any] = ()
    content: str = ""


def describe_machine(kind: str) -> list[Any]:
    """What a time ratio depends on besides the model and the data: device, reference, clock, versions."""
    device = choose_device(kind)
    reference = open_reference(None, read_limits().submission_mib)
    facts = [device.kind, device.name, device.facts.get("driver_version"), device.facts["cores"]]
    return [*facts, reference.sha256, harness_sha256(), platform.python_version(), torch.__version__]


@dataclass(frozen=True)
class Timed:
    """Inference seconds of a submission, and of the reference for as many patches, timed right after it."""

    seconds: float
    reference: float


def time_model(member: Path, name: str, clock: Clock) -> dict[str, Timed]:
    """The times of one model for one prediction and for eight, by the name of the set of views.

    Both are measured in the sandbox and beside the reference. What was measured before for the same files,
    data, options and machine is taken over. A model whose eight views exceed a limit other than that of time
    has a time for one view only. Raises UsageError when the ingestion program does not time the model at all.
    """
    single, all_views = MEASURED
    first = _measure(member, single, name, clock)
    if isinstance(first, int):
        raise UsageError(
            f"{member}: the ingestion program ended with exit code {first} and did not time it; its message "
            "above says why"
        )
    last = _measure(member, all_views, name, clock)
    if last == _FAILED:
        print(f"note: {name}: more views than one are left out; the message above says why", file=sys.stderr)
        return {single: first}
    if isinstance(last, int):
        raise UsageError(
            f"{member}: the ingestion program ended with exit code {last} and did not time its eight views; "
            "its message above says why"
        )
    return {single: first, all_views: last}


def to_costs(timed: Mapping[Key, Timed]) -> dict[Key, float]:
    """The time ratio of each model for each set of views, from what `time_model` has found for all models.

    All are ratios to one time of the reference, the usual one. Sets of views that were not timed lie on the
    line between those that were.
    """
    single, all_views = MEASURED
    few, many = len(VIEWS[single]), len(VIEWS[all_views])
    reference = usual_reference(timed.values())
    costs: dict[Key, float] = {}
    for name in dict.fromkeys(name for name, _ in timed):
        first, last = timed[name, single], timed.get((name, all_views))
        # More views never cost less, whatever the clock's scatter says
        slope = max(last.seconds - first.seconds, 0) / (many - few) if last else 0.0
        for views in VIEWS if last else [single]:
            costs[name, views] = (first.seconds + slope * (len(VIEWS[views]) - few)) / reference
    return costs


def usual_reference(timed: Iterable[Timed]) -> float:
    """The median of the reference's times: a machine is faster at one time and slower at another."""
    return statistics.median(one.reference for one in timed)


def ratio_now(timing: Mapping[str, Any]) -> float:
    """The time ratio in the contents of timing.json, to the reference as it was timed after the submission.

    The ratio that the clock judges is to the reference's time before the submission. Here that time may have
    been kept from an earlier run, when the machine was faster or slower.
    """
    return float(timing["ratio"]) / (timing["reference_drift"] or 1.0)


def _measure(member: Path, views: str, name: str, clock: Clock) -> Timed | int:
    return measure_files(pack_ensemble([Member(member, views)], clock.batch_size), f"{name}-{views}", clock)


def measure_files(files: dict[str, bytes], title: str, clock: Clock) -> Timed | int:
    """The time of a packed submission, or the exit code of the ingestion program if it was not timed.

    A time below SHORT seconds is measured up to MOST_RUNS times, each in fresh processes; the mean counts.
    """
    conditions = [str(clock.data.resolve()), clock.content, *clock.options, *clock.machine]
    total = hashlib.sha256(json.dumps(conditions).encode())
    for path in sorted(files):
        total.update(path.encode() + hashlib.sha256(files[path]).digest())
    kept = clock.folder / f"{total.hexdigest()}.json"
    if found := _read_kept(kept):
        return found
    with tempfile.TemporaryDirectory() as name:
        submission = Path(name) / "submission"
        write_submission(submission, files)
        cache = ["--reference-cache", str(clock.folder / "reference" / clock.content[:16])]
        timing = _run_clock(submission, Path(name) / "output", [*cache, "--limit-ratio", NO_LIMIT], clock)
        if isinstance(timing, int):
            return timing
        seconds = [float(timing["inference_seconds"])]
        while sum(seconds) < SHORT and len(seconds) < MOST_RUNS:
            again = _run_clock(submission, Path(name) / "output", ["--limit-ratio", "0"], clock)
            if isinstance(again, int):
                return again
            seconds.append(float(again["inference_seconds"]))
    write_file(kept, json.dumps({"member": title, "seconds": seconds, "timing": timing}) + "\n")
    return _to_timed(seconds, timing)


def _read_kept(path: Path) -> Timed | None:
    """What was measured before; None if nothing was, or if the file is damaged."""
    try:
        kept = json.loads(path.read_text())
        found = _to_timed(kept["seconds"], kept["timing"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if 0 < found.seconds < math.inf and 0 < found.reference < math.inf else None


def _to_timed(seconds: Sequence[float], timing: Mapping[str, Any]) -> Timed:
    reference = float(timing["reference_seconds"]) * (timing["reference_drift"] or 1.0)
    return Timed(statistics.fmean(seconds), reference)


def _run_clock(submission: Path, output: Path, options: Sequence[str], clock: Clock) -> dict[str, Any] | int:
    """The contents of timing.json, or the exit code of the ingestion program if it did not time it."""
    paths = [str(clock.data), str(submission), str(output)]
    if code := run_program([str(INGEST), *paths, *clock.options, *options]):
        return code
    timing = read_timing(output)
    shutil.rmtree(output)
    return timing
