"""A session, request by request: what a submission can do while it is not asked."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from flair_ingestion.devices import Device
from flair_ingestion.exchange import synthetic_request
from flair_ingestion.limits import read_limits
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.errors import SubmissionError

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from zoo import lay_out

CPU = Device("cpu", "a processor", None, {"cores": 2})
GAP = 0.3  # seconds


def run_with_gaps(folder: Path, requests: int = 4) -> None:
    """Load, warm up and ask, with pauses in between as if reading were slow."""
    submission = open_submission(lay_out("works_in_gaps", folder), 100)
    with Session(submission, CPU, read_limits(), time.monotonic() + 300) as session:
        session.start("none")
        session.load()
        session.warm_up([1], [5])
        for number in range(requests):
            time.sleep(GAP)
            budget = session.budget(f"request {number}", "request_seconds")
            session.predict(synthetic_request([5], 40), budget)
        session.end()


def test_a_submission_stands_still_between_requests(tmp_path: Path) -> None:
    run_with_gaps(tmp_path)


def test_without_that_it_would_work_off_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flair_ingestion.child.Child.freeze", lambda child: None)
    with pytest.raises(SubmissionError, match=r"CHEATED: .* s of work in .* s off the clock"):
        run_with_gaps(tmp_path)
