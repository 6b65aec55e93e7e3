"""What each model costs: its time as a multiple of the reference's, measured by the ingestion program."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flair_baseline.evaluation import INGEST, run_program
from flair_baseline.model.views import VIEWS
from flair_baseline.packaging import Member, pack_ensemble, write_submission
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import write_file
from flair_scoring.outputs.ingestion_output import read_timing

NO_LIMIT = "1000000"  # times the reference: the time is measured, however long it is
MEASURED = ("none", "d4")  # the time of other sets of views follows from their number


@dataclass(frozen=True)
class Clock:
    """How models are timed: `options` are those of ingest.py, `folder` keeps what was measured."""

    data: Path
    folder: Path
    batch_size: int
    options: Sequence[str]


def measure_costs(member: Path, name: str, clock: Clock) -> dict[str, float]:
    """The time ratio of one model for each set of views.

    One prediction and eight are timed, each in the sandbox and beside the reference; the others lie on the
    line between them. What was measured before for the same files, data and options is taken over. Raises
    UsageError when the ingestion program does not time the model.
    """
    ratios = {views: _measure(Member(member, views), f"{name}-{views}", clock) for views in MEASURED}
    few, many = (len(VIEWS[views]) for views in MEASURED)
    first, last = (ratios[views] for views in MEASURED)
    slope = max(last - first, 0) / (
        many - few
    )  # more views never cost less, whatever the clock's scatter says
    return {views: first + slope * (len(VIEWS[views]) - few) for views in VIEWS}


def _measure(member: Member, title: str, clock: Clock) -> float:
    files = pack_ensemble([member], clock.batch_size)
    total = hashlib.sha256(json.dumps([str(clock.data.resolve()), *clock.options]).encode())
    for path in sorted(files):
        total.update(path.encode() + hashlib.sha256(files[path]).digest())
    kept = clock.folder / f"{total.hexdigest()}.json"
    try:
        return float(json.loads(kept.read_text())["ratio"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not measured yet, or the file is damaged
    with tempfile.TemporaryDirectory() as name:
        submission, output = Path(name) / "submission", Path(name) / "output"
        write_submission(submission, files)
        paths = [str(clock.data), str(submission), str(output)]
        cache = ["--reference-cache", str(clock.folder / "reference")]
        code = run_program([str(INGEST), *paths, *clock.options, *cache, "--limit-ratio", NO_LIMIT])
        if code:
            raise UsageError(
                f"{member.checkpoint}: the ingestion program ended with exit code {code} and did not time "
                "it; its message above says why"
            )
        timing = read_timing(output)
        shutil.rmtree(output)
    write_file(kept, json.dumps({"member": title, "ratio": timing["ratio"], "timing": timing}) + "\n")
    return float(timing["ratio"])
