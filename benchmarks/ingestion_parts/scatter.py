"""How far the ratio of two inference times scatters from run to run."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flair_ingestion.dataset import Patch
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.submission import Submission, open_submission

SLEEPER = """
import time, torch
class Model:
    def __init__(self, submission_dir, device):
        self.labels = torch.zeros(1, 512, 512, dtype=torch.uint8)
    def predict(self, batch):
        time.sleep({seconds})
        return self.labels
"""


def scatter_of_sleepers(patches: Sequence[Patch], conditions: Conditions, runs: int) -> list[str]:
    """The ratio of a submission that sleeps 40 ms a patch to a reference that sleeps 20."""
    with tempfile.TemporaryDirectory() as folder:
        sleepers = []
        for milliseconds in (20, 40):
            sleeper = Path(folder, str(milliseconds))
            sleeper.mkdir()
            (sleeper / "model.py").write_text(SLEEPER.format(seconds=milliseconds / 1000))
            sleepers.append(open_submission(sleeper, 1))
        ratio = scatter_of_ratio(sleepers[0], sleepers[1], patches, conditions, runs)
    return [f"a submission that sleeps 40 ms per patch to a reference that sleeps 20: {ratio}"]


def scatter_of_models(
    submission: Submission, patches: Sequence[Patch], conditions: Conditions, runs: int
) -> list[str]:
    """The ratio of a model's time to its own."""
    ratio = scatter_of_ratio(submission, submission, patches, conditions, runs)
    return [f"{submission.source.name} to itself: {ratio}"]


def scatter_of_ratio(
    reference: Submission, submission: Submission, patches: Sequence[Patch], conditions: Conditions, runs: int
) -> str:
    """Mean and coefficient of variation of the ratio over several runs, each in fresh processes."""
    ratios = []
    for _ in range(runs):
        unit, attempt = Attempt(), Attempt()
        measure(reference, patches, conditions, unit)
        measure(submission, patches, conditions, attempt)
        ratios.append(attempt.seconds / unit.seconds)
    mean = statistics.mean(ratios)
    return (
        f"ratio {mean:.4f}, coefficient of variation {statistics.stdev(ratios) / mean:.2%} over {runs} runs "
        f"of {len(patches)} patches"
    )
