"""A session, request by request: what a submission can do while it is not asked."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flair_ingestion.devices import Device
from flair_ingestion.exchange import Exchange, Layout, synthetic_request
from flair_ingestion.limits import read_limits
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.errors import SubmissionError

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from zoo import lay_out

CPU = Device("cpu", "a processor", None, {"cores": 2})
GAP = 0.5  # seconds


def run_with_gaps(animal: str, folder: Path, requests: int = 4) -> None:
    """Load, warm up and ask, with pauses in between as if reading were slow."""
    with Session(
        open_submission(lay_out(animal, folder), 100), CPU, read_limits(), time.monotonic() + 300
    ) as session:
        session.start("none")
        if session.cage_level != "full":
            pytest.skip("requests are copied under the clock here")
        session.load()
        session.warm_up([1], [5])
        for number in range(requests):
            time.sleep(GAP)
            budget = session.budget(f"request {number}", "request_seconds")
            session.predict(synthetic_request([5], 40, seed=number + 1), budget)
        session.end()


def publish_slowly(exchange: Exchange, layout: Layout, publish: Any = Exchange.publish) -> None:
    publish(exchange, layout)
    time.sleep(GAP)


def test_a_submission_stands_still_between_requests(tmp_path: Path) -> None:
    run_with_gaps("works_in_gaps", tmp_path)


def test_without_that_it_would_work_off_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flair_ingestion.child.Child.freeze", lambda child: None)
    with pytest.raises(SubmissionError, match=r"CHEATED: .* s of work in .* s off the clock"):
        run_with_gaps("works_in_gaps", tmp_path)


def test_no_process_of_it_sees_a_request_before_the_clock_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Exchange, "publish", publish_slowly)
    run_with_gaps("looks_ahead", tmp_path)


def test_one_that_does_not_stand_still_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "publish", publish_slowly)
    monkeypatch.setattr("flair_ingestion.child.Child.freeze", lambda child: None)
    with pytest.raises(SubmissionError, match=r"CHEATED: saw the request .* s before it was asked"):
        run_with_gaps("looks_ahead", tmp_path)


def test_outside_of_the_full_cage_a_request_is_copied_under_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flair_ingestion.cage.reached_level", lambda *_: "files")
    monkeypatch.setattr(Exchange, "publish", publish_slowly)
    with Session(
        open_submission(lay_out("honest_constant", tmp_path), 100), CPU, read_limits(), time.monotonic() + 300
    ) as session:
        session.start("none")
        session.load()
        session.warm_up([1], [5])
        budget = session.budget("request", "request_seconds")
        assert session.predict(synthetic_request([5], 40), budget)[1] >= GAP
        session.end()
