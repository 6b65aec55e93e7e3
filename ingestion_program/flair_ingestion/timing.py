"""The content of timing.json: what was measured, on which machine, against which limits, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from flair_ingestion.devices.device import Device
from flair_ingestion.devices.nvidia import GpuState
from flair_ingestion.limits import Limits, TimeLimit
from flair_ingestion.measurement import Attempt
from flair_ingestion.reference import Reference, harness_sha256
from flair_ingestion.submission import Submission
from flair_scoring.base.errors import FlairError, TimeLimitError
from flair_scoring.base.provenance import stamp

PERCENTILES = {"min": 0, "median": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}


@dataclass
class Record:
    """What is known of a run. It is filled in as the run proceeds; what is not known yet is None or empty."""

    device: Device
    limits: Limits
    patches: int
    submission: Submission | None = None
    reference: Reference | None = None
    time_limits: list[TimeLimit] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    order_seed: int | None = None
    floor_seconds: float | None = None  # a shorter inference time deserves a look
    drift: float | None = None  # the reference's time at the end, divided by its time at the start
    harness_sha256: str = field(default_factory=harness_sha256)  # computed before the submission runs

    @property
    def reference_seconds(self) -> float | None:
        """The reference's time in seconds, scaled to all patches; None if there is no reference."""
        return self.reference.seconds_per_patch * self.patches if self.reference else None

    @property
    def counted_index(self) -> int:
        """Index of the attempt that counts: the one with the median time, or the slower one of two."""
        ranked = sorted(range(len(self.attempts)), key=lambda index: self.attempts[index].seconds)
        return ranked[len(ranked) // 2]

    @property
    def counted(self) -> Attempt:
        """The attempt that counts; an empty one if there was no attempt."""
        return self.attempts[self.counted_index] if self.attempts else Attempt()


def describe(record: Record, error: FlairError | None) -> dict[str, Any]:
    """The content of timing.json for a run that has ended, perhaps with an error; unknown values are None."""
    counted = record.counted
    ran = bool(counted.latencies)
    seconds, reference = counted.seconds if ran else None, record.reference_seconds
    failed = error is not None and not isinstance(error, TimeLimitError)
    return {
        **stamp(),
        "verdict": "failed" if failed else "over_limit" if error else "within_limit",
        "reason": _reason(record, error),
        "inference_seconds": seconds,
        "reference_seconds": reference,
        "ratio": seconds / reference if seconds and reference and not failed else None,
        "limit_ratio": record.limits.ratio,
        "limit_seconds": record.limits.seconds,
        "grey_zone": max((limit.grey for limit in record.time_limits), default=None),
        "reference_drift": record.drift,
        "floor_seconds": record.floor_seconds,
        "reference_gpu": _describe_gpu(record.reference.gpu if record.reference else None),
        "attempts": [_describe_attempt(attempt) for attempt in record.attempts],
        "order_seed": record.order_seed,
        "patches": record.patches,
        "requests": len(counted.latencies),
        "latencies_ms": [1000 * latency for latency in counted.latencies],
        "latency_ms": latency_percentiles(counted.latencies) if ran else None,
        "patches_per_second": sum(counted.counts) / seconds if seconds else None,
        "overhead_ms": _milliseconds(record.reference.overhead_seconds if record.reference else None),
        "load_seconds": counted.load_seconds,
        "warmup_seconds": counted.warmup_seconds,
        "peak_memory_mib": {"host": counted.host_mib, "accelerator": counted.accelerator_mib},
        "device": {"kind": record.device.kind, "name": record.device.name, **record.device.facts},
        "versions": counted.software.get("versions"),
        "threads": counted.software.get("threads"),
        "sandbox": counted.sandbox,
        "harness_sha256": record.harness_sha256,
        "reference_sha256": record.reference.sha256 if record.reference else None,
        "submission_sha256": record.submission.sha256 if record.submission else None,
    }


def latency_percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """Minimum, median, upper percentiles and maximum, in milliseconds, of latencies in seconds."""
    values = np.percentile(latencies, list(PERCENTILES.values())) * 1000
    return dict(zip(PERCENTILES, values.tolist(), strict=True))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _reason(record: Record, error: FlairError | None) -> str:
    if error:
        return " ".join(str(error).split("\n  at ")[0].split())
    seconds, limits = record.counted.seconds, record.time_limits
    allowed = " and ".join(limit.sentence for limit in limits)
    return f"{seconds:.4g} s of inference" + (f", within {allowed}" if limits else "; no limit was set")


def _describe_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "inference_seconds": attempt.seconds,
        "patches": sum(attempt.counts),
        "completed": attempt.completed,
        "load_seconds": attempt.load_seconds,
        "warmup_seconds": attempt.warmup_seconds,
        "gaps": asdict(attempt.gaps),
        "gpu": _describe_gpu(attempt.gpu),
    }


def _describe_gpu(state: GpuState | None) -> dict[str, Any] | None:
    return None if state is None else asdict(state)
