"""What timing.json tells beside the verdict, and the bound of a request's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest_command import run_ingest

from flair_ingestion import session
from flair_scoring.base.errors import SubmissionError

SLEEPS = """
import time, torch
class Model:
    batch_size = 3
    def __init__(self, submission_dir, device): ...
    def predict(self, batch):
        time.sleep(0.2 * len(batch["metadata"]))
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
"""


def run(folder: Path, data: Path, model: str, *options: object) -> dict[str, Any]:
    """timing.json of a run without a relative limit that must be within_limit."""
    (folder / "submission").mkdir()
    (folder / "submission/model.py").write_text(model)
    done = run_ingest(folder, data, folder / "submission", folder / "output", "--limit-ratio", 0, *options)
    assert done.returncode == 0, done.stderr
    timing = json.loads((folder / "output/timing.json").read_text())
    assert timing["verdict"] == "within_limit"
    assert len(list((folder / "output/predictions").iterdir())) == 6
    return timing


def test_what_a_run_without_a_reference_tells(flair_tree: Path, tmp_path: Path) -> None:
    timing = run(tmp_path, flair_tree, SLEEPS, "--order-seed", 17)
    assert (timing["requests"], timing["patches"]) == (2, 6)
    assert 1.2 <= timing["inference_seconds"] < 2.4
    assert timing["patches_per_second"] == pytest.approx(6 / timing["inference_seconds"])
    assert timing["overhead_ms"] is None  # no reference was timed
    assert timing["reference_drift"] is None
    assert timing["order_seed"] == 17
    (attempt,) = timing["attempts"]
    assert attempt["gaps"].pop("total") == 3  # after each request, one of them in the warm-up
    assert attempt["gaps"] == {"unconfirmed": 0, "active": 0, "restless": 0, "accounted": True}


def test_the_size_of_a_request_is_bounded_and_the_bound_is_stated() -> None:
    """32 patches of 110 x 110 pixels at 22 bytes and 114 dates, the most in FLAIR #2, are 966 MiB."""
    session._check_size(32, 110, 114, 1024)
    with pytest.raises(SubmissionError, match=r"makes requests of 96\d MiB where series have 114 dates"):
        session._check_size(32, 110, 114, 960)
