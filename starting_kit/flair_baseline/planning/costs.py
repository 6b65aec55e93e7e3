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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flair_baseline.evaluation import INGEST, run_program
from flair_baseline.model.views import VIEWS
from flair_baseline.packaging import Member, pack_ensemble, write_submission
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
MEASURED = ("none", "d4")  # the time of other sets of views follows from their number


@dataclass(frozen=True)
class Clock:
    """How models are timed: `options` are those of ingest.py, `folder` keeps what was measured.

    `machine` is what `describe_machine` returns: a time that another machine has measured is not taken over.
    """

    data: Path
    folder: Path
    batch_size: int
    options: Sequence[str]
    machine: Sequence[Any] = ()


def describe_machine(kind: str) -> list[Any]:
    """What a time ratio depends on besides the model and the data: device, reference, clock, versions."""
    device = choose_device(kind)
    reference = open_reference(None, read_limits().submission_mib)
    facts = [device.kind, device.name, device.facts.get("driver_version"), device.facts["cores"]]
    return [*facts, reference.sha256, harness_sha256(), platform.python_version(), torch.__version__]


def measure_costs(member: Path, name: str, clock: Clock) -> dict[str, float]:
    """The time ratio of one model for each set of views.

    One prediction and eight are timed, each in the sandbox and beside the reference; the others lie on the
    line between them. What was measured before for the same files, data, options and machine is taken over.
    A model whose eight views exceed a limit other than that of time has a ratio for one view only. Raises
    UsageError when the ingestion program does not time the model at all.
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
    few, many = len(VIEWS[single]), len(VIEWS[all_views])
    slope = max(last - first, 0) / (
        many - few
    )  # more views never cost less, whatever the clock's scatter says
    return {views: first + slope * (len(VIEWS[views]) - few) for views in VIEWS}


def _measure(member: Path, views: str, name: str, clock: Clock) -> float | int:
    return measure_files(pack_ensemble([Member(member, views)], clock.batch_size), f"{name}-{views}", clock)


def ratio_now(timing: Mapping[str, Any]) -> float:
    """The time ratio in the contents of timing.json, to the reference as it was timed after the submission.

    The ratio that the clock judges is to the reference's time before the submission. Here that time may have
    been kept from an earlier run, when the machine was faster or slower.
    """
    return float(timing["ratio"]) / (timing["reference_drift"] or 1.0)


def measure_files(files: dict[str, bytes], title: str, clock: Clock) -> float | int:
    """The time ratio of a packed submission, or the exit code of the ingestion program if it was not timed.

    A time below SHORT seconds is measured up to MOST_RUNS times, each in fresh processes; the mean counts.
    """
    total = hashlib.sha256(json.dumps([str(clock.data.resolve()), *clock.options, *clock.machine]).encode())
    for path in sorted(files):
        total.update(path.encode() + hashlib.sha256(files[path]).digest())
    kept = clock.folder / f"{total.hexdigest()}.json"
    try:
        ratio = float(json.loads(kept.read_text())["ratio"])
    except (OSError, ValueError, LookupError, TypeError):
        ratio = math.nan  # not measured yet, or the file is damaged
    if 0 < ratio < math.inf:
        return ratio
    with tempfile.TemporaryDirectory() as name:
        submission = Path(name) / "submission"
        write_submission(submission, files)
        cache = ["--reference-cache", str(clock.folder / "reference")]
        timing = _run_clock(submission, Path(name) / "output", [*cache, "--limit-ratio", NO_LIMIT], clock)
        if isinstance(timing, int):
            return timing
        seconds = [float(timing["inference_seconds"])]
        while sum(seconds) < SHORT and len(seconds) < MOST_RUNS:
            again = _run_clock(submission, Path(name) / "output", ["--limit-ratio", "0"], clock)
            if isinstance(again, int):
                return again
            seconds.append(float(again["inference_seconds"]))
    ratio = ratio_now(timing) * statistics.fmean(seconds) / seconds[0]
    found = {"member": title, "ratio": ratio, "seconds": seconds, "timing": timing}
    write_file(kept, json.dumps(found) + "\n")
    return ratio


def _run_clock(submission: Path, output: Path, options: Sequence[str], clock: Clock) -> dict[str, Any] | int:
    """The contents of timing.json, or the exit code of the ingestion program if it did not time it."""
    paths = [str(clock.data), str(submission), str(output)]
    if code := run_program([str(INGEST), *paths, *clock.options, *options]):
        return code
    timing = read_timing(output)
    shutil.rmtree(output)
    return timing
