"""The time of the reference submission, which is the unit of the relative limit, and of the harness alone."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from flair_ingestion import IN_WHEEL, PACKAGE, PROGRAM
from flair_ingestion.dataset import Patch, sample_patches
from flair_ingestion.devices.nvidia import GpuState
from flair_ingestion.gpu_memory import OVERWRITING_SUBMISSION
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.submission import Submission, open_submission
from flair_scoring.base.errors import PredictionError, SubmissionError, TimeLimitError, UsageError
from flair_scoring.base.files import make_folder, write_file
from flair_scoring.base.provenance import stamp

NULL_SUBMISSION = PROGRAM / "null_submission"
OVERHEAD_PATCHES = 64
DRIFT_PATCHES = 64  # patches on which the reference is timed once more at the end
BLOCKS = 8
SEED = 2022


@dataclass(frozen=True)
class Reference:
    """The measured time of a reference submission.

    Attributes:
        sha256: Hash of the submission.
        seconds_per_patch: Mean inference time.
        standard_error: Of that mean, as a fraction of it.
        patches: How many patches were timed.
        overhead_seconds: Time per patch that the harness itself takes inside the clock.
        first_patches: How many of the first patches are timed once more at the end of the run.
        first_seconds: The time that these took.
        gpu: The state of the GPU during the measurement; None on a CPU.
    """

    sha256: str
    seconds_per_patch: float
    standard_error: float
    patches: int
    overhead_seconds: float
    first_patches: int
    first_seconds: float
    gpu: GpuState | None = None


def open_reference(given: Path | None, max_mib: float) -> Submission:
    """Open the reference: the one `given`, or reference_submission/ in the program's folder or beside it.

    Raises UsageError if there is none, or if it is not a valid submission.
    """
    paths = [given] if given else [folder / "reference_submission" for folder in (PROGRAM, PROGRAM.parent)]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise UsageError(
            f"{paths[-1]}: no reference submission; give one with --reference, or switch the limit that it "
            "sets off with --limit-ratio 0"
        )
    try:
        return open_submission(path, max_mib)
    except SubmissionError as error:
        raise UsageError(f"as reference: {error}") from None


def time_reference(
    submission: Submission, patches: Sequence[Patch], conditions: Conditions, cache: Path | None
) -> Reference:
    """Time the reference on a sample of the patches from all domains, or take its time from the cache.

    The null submission is timed after it. Raises UsageError if either of them fails.
    """
    sample = _draw_sample(patches, conditions)
    key = _cache_key(submission, [patch.id for patch in sample], conditions)
    entry = (
        cache / f"reference-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        if cache
        else None
    )
    if entry and (cached := _read_cache(entry)):
        return cached
    if entry:  # made now, since a measurement that cannot be kept would be lost
        make_folder(entry.parent)
    attempt = _time(submission, sample, conditions, "reference")
    for line in attempt.output:  # the reference tells, for example, that its weights are missing
        print(f"reference: {line}", file=sys.stderr)
    overhead = time_harness(sample, conditions)
    mean = _mean_and_error(attempt)
    first = _first_patches(attempt)
    reference = Reference(submission.sha256, *mean, len(sample), overhead, *first, attempt.gpu)
    if entry:
        write_file(entry, json.dumps({**stamp(), **key, "reference": asdict(reference)}, indent=1) + "\n")
    return reference


def time_drift(
    submission: Submission, reference: Reference, patches: Sequence[Patch], conditions: Conditions
) -> float | None:
    """Time the reference again on the first patches of its sample. Returns the ratio of new to first time.

    None if the time for the whole run ends before. Raises UsageError if the reference fails.
    """
    sample = _draw_sample(patches, conditions)[: reference.first_patches]
    attempt = Attempt()
    try:
        measure(submission, sample, conditions, attempt, title="reference")
    except TimeLimitError:
        return None
    except (SubmissionError, PredictionError) as error:
        raise UsageError(f"{submission.source}: the reference cannot be timed again: {error}") from None
    return attempt.seconds / reference.first_seconds


def time_harness(patches: Sequence[Patch], conditions: Conditions) -> float:
    """Inference time in seconds per patch of the null submission, on some of the patches."""
    null = open_submission(NULL_SUBMISSION, conditions.limits.submission_mib)
    attempt = _time(null, patches[:OVERHEAD_PATCHES], conditions, "overhead")
    return attempt.seconds / sum(attempt.counts)


def harness_sha256() -> str:
    """Hash of the names and contents of what measures: this package, ingest.py and the kit's own submissions.

    It is the same in a clone, in the bundle and in a wheel.
    """
    sources = [path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(IN_WHEEL)]
    named = {f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path for path in sources}
    for path in (PROGRAM / "ingest.py", NULL_SUBMISSION / "model.py", OVERWRITING_SUBMISSION / "model.py"):
        named[path.relative_to(PROGRAM).as_posix()] = path
    total = hashlib.sha256()
    for name, path in sorted(named.items()):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _time(submission: Submission, patches: Sequence[Patch], conditions: Conditions, title: str) -> Attempt:
    attempt = Attempt()
    try:
        measure(submission, patches, conditions, attempt, title=title)
    except (SubmissionError, PredictionError, TimeLimitError) as error:
        raise UsageError(f"{submission.source}: the {title} cannot be timed: {error}") from None
    return attempt


def _read_cache(entry: Path) -> Reference | None:
    """The reference's time in a file of the cache; None if the file is missing or damaged."""
    try:
        told = json.loads(entry.read_text())["reference"]
        gpu = told.pop("gpu")
        kept = Reference(**told, gpu=gpu and GpuState(**gpu))
        whole = all(isinstance(value, int | float) for name, value in told.items() if name != "sha256")
        return kept if whole and min(kept.seconds_per_patch, kept.first_seconds) > 0 else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _draw_sample(patches: Sequence[Patch], conditions: Conditions) -> list[Patch]:
    """The same patches in the same order each time; the order is random, so that blocks hold all domains."""
    sample = sample_patches(patches, conditions.limits.calibration_patches, SEED)
    return [sample[index] for index in np.random.default_rng(SEED).permutation(len(sample))]


def _first_patches(attempt: Attempt) -> tuple[int, float]:
    """The number of patches, and the seconds, of the first requests that together cover DRIFT_PATCHES."""
    covered = np.cumsum(attempt.counts)
    requests = min(int(np.searchsorted(covered, DRIFT_PATCHES)) + 1, len(covered))
    return int(covered[requests - 1]), math.fsum(attempt.latencies[:requests])


def _mean_and_error(attempt: Attempt) -> tuple[float, float]:
    """Mean seconds per patch, and its standard error as a fraction of it, from blocks of requests."""
    blocks = min(BLOCKS, len(attempt.latencies))
    seconds = [sum(block) for block in np.array_split(attempt.latencies, blocks)]
    counts = [sum(block) for block in np.array_split(attempt.counts, blocks)]
    means = np.divide(seconds, counts)
    mean = float(sum(seconds) / sum(counts))
    error = float(np.std(means, ddof=1)) / math.sqrt(blocks) if blocks > 1 else 0.0
    return mean, error / mean


def _cache_key(submission: Submission, ids: Sequence[str], conditions: Conditions) -> dict[str, Any]:
    device = conditions.device
    return {
        "device": [device.kind, device.name, device.facts.get("driver_version"), device.facts["cores"]],
        "reference_sha256": submission.sha256,
        "harness_sha256": harness_sha256(),
        "sample": list(ids),
        "series_lengths": conditions.series_lengths,
        "versions": [platform.python_version(), *(_version(name) for name in ("torch", "numpy"))],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
