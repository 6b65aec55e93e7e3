"""What timing.json tells beside the verdict: requests of one patch, and the bound of a request's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest_command import run_ingest

from flair_ingestion import session
from flair_scoring.errors import SubmissionError

SLEEPS = """
import time, torch
class Model:
    batch_size = 3
    def __init__(self, submission_dir, device):
        self.requests = 0
    def predict(self, batch):
        time.sleep(0.2 * len(batch["metadata"]))
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
"""
FAILS_ALONE = SLEEPS.replace("time.sleep(", "assert len(batch['metadata']) > 1; time.sleep(")
HANGS_ALONE = SLEEPS.replace("time.sleep(", "time.sleep(len(batch['metadata']) == 1 and 999 or ")


def run(folder: Path, data: Path, model: str, limits: str = "request_seconds: 60") -> dict[str, Any]:
    """timing.json of a run without a relative limit that must be within_limit."""
    (folder / "submission").mkdir()
    (folder / "submission/model.py").write_text(model)
    (folder / "limits.yaml").write_text(limits)
    options = ["--limits", folder / "limits.yaml", "--limit-ratio", 0]
    done = run_ingest(folder, data, folder / "submission", folder / "output", *options)
    assert done.returncode == 0, done.stderr
    timing = json.loads((folder / "output/timing.json").read_text())
    assert timing["verdict"] == "within_limit"
    assert len(list((folder / "output/predictions").iterdir())) == 6
    return timing


def test_requests_of_one_patch_are_timed_off_the_counted_time(flair_tree: Path, tmp_path: Path) -> None:
    timing = run(tmp_path, flair_tree, SLEEPS)
    assert 200 <= timing["batch1_latency_ms"] < 550  # requests of three take 600
    assert (timing["requests"], timing["patches"]) == (2, 6)
    assert 1.2 <= timing["inference_seconds"] < 2.4  # with 6 more patches it would be 2.4
    assert timing["patches_per_second"] == pytest.approx(6 / timing["inference_seconds"])
    assert timing["overhead_ms"] is None  # no reference was timed


@pytest.mark.parametrize("model", [FAILS_ALONE, HANGS_ALONE], ids=["fails", "hangs"])
def test_a_submission_that_fails_there_is_not_blamed(flair_tree: Path, tmp_path: Path, model: str) -> None:
    timing = run(tmp_path, flair_tree, model, "request_seconds: 4")
    assert timing["batch1_latency_ms"] is None
    assert timing["attempts"][0]["completed"]


def test_the_size_of_a_request_is_bounded_and_the_bound_is_stated() -> None:
    """32 patches of 110 x 110 pixels at 22 bytes and 114 dates, the most in FLAIR #2, are 966 MiB."""
    session._check_size(32, 110, 114, 1024)
    with pytest.raises(SubmissionError, match=r"makes requests of 96\d MiB where series have 114 dates"):
        session._check_size(32, 110, 114, 960)
