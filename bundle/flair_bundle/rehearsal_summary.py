"""What people are told of a rehearsal: steps, scores, what participants see, limits that are near."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flair_bundle.check import DEFAULT_QUEUE_SECONDS
from flair_bundle.platform.worker import Outcome
from flair_bundle.rehearsal import Rehearsed

NEAR = 0.5  # the share of a limit from which a use of it is told


def limits_used(one: Rehearsed) -> Iterator[tuple[float, str]]:
    """The share of each limit that was used, with a phrase that names use and limit."""
    outcome, limits = one.outcome, one.phase.limits
    seconds = one.phase.settings.get("execution_time_limit", DEFAULT_QUEUE_SECONDS)
    for job, step in (("ingestion", outcome.ingestion), ("scoring", outcome.scoring)):
        if step:
            yield _share(f"{job}'s job", step.seconds, seconds, "s", "execution_time_limit")
    if outcome.ingestion:
        yield _share("all of ingestion", outcome.ingestion.seconds, limits.wall_seconds, "s", "wall_seconds")
    yield _share("the submission", one.size, limits.submission_mib, "MiB", "submission_mib")
    try:
        timing = json.loads((one.folder / "timing.json").read_bytes())
    except (OSError, ValueError):
        return
    memory = (timing.get("peak_memory_mib") or {}).get("host")
    known = (
        ("time / baseline", timing.get("ratio"), limits.ratio, "", "ratio"),
        ("inference", timing.get("inference_seconds"), limits.seconds, "s", "seconds"),
        ("loading", timing.get("load_seconds"), limits.load_seconds, "s", "load_seconds"),
        ("warm-up", timing.get("warmup_seconds"), limits.warmup_seconds, "s", "warmup_seconds"),
        ("memory", memory, limits.memory_gib * 1024, "MiB", "memory_gib"),
    )
    for what, used, limit, unit, key in known:
        if used is not None and limit:
            yield _share(what, used, limit, unit, key)
    if latencies := timing.get("latencies_ms"):
        yield _share(
            "the slowest request", max(latencies) / 1000, limits.request_seconds, "s", "request_seconds"
        )


def _share(what: str, used: float, limit: float, unit: str, key: str) -> tuple[float, str]:
    amount = f"{used:.3g} of {limit:g} {unit}".rstrip()
    return used / limit, f"{what}: {amount} ({used / limit:.0%} of {key})"


def describe(one: Rehearsed) -> Iterator[str]:
    """Lines on what a submission got: its steps, what participants see, what the leaderboard gets."""
    outcome, settings = one.outcome, one.phase.settings
    for job in ("own", "ingestion", "scoring"):
        if step := getattr(outcome, job):
            title = "submission's own program" if job == "own" else job
            yield f"  {title:12} exit code {step.returncode}, {step.seconds:.1f} s"
    if outcome.scoring is None:
        yield "  status       Failed: the worker gives up, since the output holds a file named metadata"
    else:
        yield f"  status       {outcome.status}"
    if outcome.scores is not None:
        yield f"  leaderboard  {', '.join(_cells(one.phase.columns, outcome.scores))}"
    elif outcome.scoring:
        told = outcome.scoring.stderr.strip().splitlines() or ["nothing"]
        yield f"  reason       {told[0].removeprefix('error: ')}"
    yield f"  participants {describe_visible(settings, outcome)}"
    for share, phrase in limits_used(one):
        if share >= NEAR:
            yield f"  near a limit {phrase}"


def _cells(columns: Sequence[dict[str, Any]], scores: dict[str, Any]) -> Iterator[str]:
    for column in columns:
        if "computation" not in column and not column.get("hidden"):
            value = scores.get(column["key"])
            shown = "nothing" if value is None else f"{value:.{column.get('precision', 2)}f}"
            yield f"{column['title']} {shown}"


def describe_visible(settings: Mapping[str, Any], outcome: Outcome) -> str:
    """What participants see of a run and what the phase hides from them, by the phase's switches."""
    hidden = settings.get("hide_output")
    outputs = {
        "logs": hidden,
        "output of ingestion": hidden or settings.get("hide_prediction_output"),
        "output of scoring": hidden or settings.get("hide_score_output"),
    }
    if outcome.scored is None:
        del outputs["output of scoring"]
    seen = [name for name, is_hidden in outputs.items() if not is_hidden]
    seen += ["page of detailed results"] if outcome.report else []
    told = f"see {', '.join(seen) or 'nothing'}"
    kept_back = [name for name, is_hidden in outputs.items() if is_hidden]
    return f"{told}; do not see {', '.join(kept_back)}" if kept_back else told
