"""A session, request by request: what a submission can do between two requests."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entries import copy_submission

from flair_ingestion import session as session_module
from flair_ingestion.devices.device import Device
from flair_ingestion.limits import Limits, read_limits
from flair_ingestion.processes import standstill
from flair_ingestion.processes.process_tree import processor_seconds
from flair_ingestion.processes.standstill import Gaps
from flair_ingestion.sandbox import policy
from flair_ingestion.sandbox.child import Child
from flair_ingestion.session import Session
from flair_ingestion.shared_memory import Request, synthetic_request, write_request
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import SubmissionError

CPU = Device("cpu", "a processor", None, {"cores": 2})
GAP = 0.5  # seconds
# Test submissions that work in gaps by calls that test_seccomp.py tries one by one, and two that take long
OTHER_WAYS = (
    *("wakes_by_timer", "wakes_by_descriptor", "wakes_by_exit_signal", "wakes_by_death_signal"),
    *("late_to_stop", "forks_in_storms"),
)
WRITES_INTO_ITS_TENSORS = """
import torch
class Model:
    batch_size = 2
    def __init__(self, submission_dir, device): ...
    def predict(self, batch):
        seen = batch["aerial"][:, 0] % 13
        seen = (seen + sum(int(series.sum()) for series in batch["sentinel"]) % 13) % 13
        lists = [batch[name] for name in ("sentinel", "sentinel_masks", "sentinel_dates")]
        for tensor in (batch["aerial"], *sum(lists, [])):
            tensor.fill_(1)
        return seen
"""


def write_model(folder: Path, source: str) -> Path:
    folder.mkdir()
    (folder / "model.py").write_text(source)
    return folder


@contextmanager
def started(submission: Path, limits: Limits | None = None) -> Iterator[Session]:
    """A session in which the submission has been loaded and warmed up."""
    limits = limits or read_limits()
    with Session(open_submission(submission, 100), CPU, limits, time.monotonic() + 300) as session:
        session.start("none")
        session.load()
        session.warm_up([session.batch_size], [5])
        yield session


def ask(session: Session, request: Request, step: str = "request") -> tuple[np.ndarray, float]:
    return session.predict(write_request(request), session.budget(step, "request_seconds"))


def run_with_gaps(name: str, folder: Path, requests: int = 4) -> Session:
    """Send several requests, with pauses between them as if reading were slow."""
    with started(copy_submission(name, folder)) as session:
        for number in range(requests):
            time.sleep(GAP)
            ask(session, synthetic_request([5], 40, seed=number + 1), f"request {number}")
        session.end()
    return session


def test_a_submission_stands_still_between_requests(tmp_path: Path) -> None:
    gaps = run_with_gaps("works_in_gaps", tmp_path).child.gaps
    assert (gaps.total, gaps.restless, gaps.accounted) == (5, 0, True)


def test_without_that_it_would_work_off_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flair_ingestion.sandbox.child.Child.freeze", lambda child: None)
    with pytest.raises(SubmissionError, match=r"CHEATED: .* s of work in .* s off the clock"):
        run_with_gaps("works_in_gaps", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("cancels_the_stop", "deaf_to_the_stop", "answers_before_asked"),
        *(pytest.param(name, marks=pytest.mark.long) for name in OTHER_WAYS),
    ],
)
def test_whoever_works_in_gaps_all_the_same_is_refused_for_it(tmp_path: Path, name: str) -> None:
    """It stands still, or its gaps are counted, which ends a run (test_measurement.py)."""
    gaps, said = Gaps(), ""
    try:
        with started(copy_submission(name, tmp_path)) as session:
            gaps = session.child.gaps
            for number in range(6):
                time.sleep(GAP)
                ask(session, synthetic_request([5], 40, seed=number + 1), f"request {number}")
            session.end()
    except SubmissionError as error:
        said = str(error)
    if "CHEATED" in said:
        assert gaps.too_many(6)
    else:
        assert said == "" or "before it was asked" in said or "out of protocol" in said


def test_work_of_a_process_that_is_gone_before_the_first_look_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look takes as long as one at some thousand threads."""
    look = Child.look

    def look_slowly(child: Child) -> Any:
        time.sleep(0.1)
        return look(child)

    monkeypatch.setattr(Child, "look", look_slowly)
    with started(copy_submission("gone_before_counted", tmp_path)) as session:
        with suppress(SubmissionError):  # on some machines it says after one gap that it has cheated
            for seed in range(6):
                ask(session, synthetic_request([5], 40, seed=seed + 1))
        assert session.child.gaps.restless == session.child.gaps.total >= 1


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        *("wakes_by_timer", "wakes_by_descriptor", "wakes_by_exit_signal", "wakes_by_death_signal"),
        *("cancels_the_stop", "late_to_stop", "deaf_to_the_stop"),
    ],
)
def test_with_a_mere_signal_and_no_filter_it_would_succeed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "system_call_filter", lambda *_: None)
    monkeypatch.setattr(Child, "freeze", lambda child: os.killpg(child.pid, signal.SIGSTOP))
    with pytest.raises(SubmissionError, match="CHEATED"):
        run_with_gaps(name, tmp_path, 12)


def keep_requests(session: Session) -> None:
    for number in range(9):
        ask(session, synthetic_request([62] * 8, 110, seed=number))


@pytest.mark.long
def test_requests_that_a_submission_keeps_are_its_memory(tmp_path: Path) -> None:
    limits = replace(read_limits(), memory_gib=1.2)
    with (
        started(copy_submission("keeps_requests", tmp_path), limits) as session,
        pytest.raises(SubmissionError, match=r"the submission holds .* GiB; memory_gib allows 1\.2"),
    ):
        keep_requests(session)


def test_work_in_a_gap_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the test continues the submission in the middle of its first gap."""
    end_gap = Child.end_gap

    def wake_and_end(child: Child) -> None:
        if child.gaps.total == 0 and child._stop:
            before = processor_seconds([child.pid])
            os.killpg(child.pid, signal.SIGCONT)
            while processor_seconds([child.pid]) == before:
                time.sleep(0.01)
            os.killpg(child.pid, signal.SIGSTOP)
        end_gap(child)

    monkeypatch.setattr(Child, "end_gap", wake_and_end)
    with started(copy_submission("honest_busy_thread", tmp_path)) as session:
        ask(session, synthetic_request([5], 40))
        session.end()
    gaps = session.child.gaps
    assert (gaps.total, gaps.active, gaps.restless, gaps.unconfirmed) == (2, 1, 1, 0)


def test_a_stop_without_effect_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here no signal stops the group, as if something continued it again and again."""
    monkeypatch.setattr(standstill, "CONFIRM_SECONDS", 0.1)
    killpg = os.killpg
    monkeypatch.setattr(os, "killpg", lambda pid, signum: signum == signal.SIGSTOP or killpg(pid, signum))
    monkeypatch.setattr(standstill._libc, "tgkill", lambda *_: 0)
    with started(copy_submission("honest_busy_thread", tmp_path)) as session:
        ask(session, synthetic_request([5], 40))
        session.end()
    gaps = session.child.gaps
    assert (gaps.total, gaps.unconfirmed, gaps.restless) == (2, 2, 2)


def test_the_submission_has_no_request_before_the_clock_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it stays awake: the request has been written, and the clock does not run yet."""
    send = Child.send

    def send_late(child: Child, message: bytes, descriptors: Any = ()) -> None:
        if descriptors and child.gaps.total:
            time.sleep(GAP)
        send(child, message, descriptors)

    monkeypatch.setattr(Child, "send", send_late)
    monkeypatch.setattr("flair_ingestion.sandbox.child.Child.freeze", lambda child: None)
    run_with_gaps("looks_ahead", tmp_path, requests=2)


def test_tensors_can_be_changed_in_place_and_no_request_shows_another_ones_pages(tmp_path: Path) -> None:
    with started(write_model(tmp_path / "model", WRITES_INTO_ITS_TENSORS)) as session:
        for seed in range(6):
            request = synthetic_request([5, 3], 40, seed)
            expected = request.aerial[:, 0] % 13
            expected = (expected + sum(int(series.sum()) for series in request.sentinel) % 13) % 13
            np.testing.assert_array_equal(ask(session, request)[0], expected)
        session.end()


def replace_message(changes: Iterator[Callable[[bytes], bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change each answer after the warm-up by the next one of `changes`."""
    receive = Child.receive

    def receive_changed(child: Child, budget: Any) -> bytes:
        message = receive(child, budget)
        return next(changes)(message) if budget.step == "request" else message

    monkeypatch.setattr(Child, "receive", receive_changed)


# No number, another number, more than the number
WRONG = (lambda done: done[:1], lambda done: done[:-1] + bytes([done[-1] ^ 1]), lambda done: done + b"x")


def test_an_answer_without_the_number_of_its_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would end with the first such answer."""
    replace_message(iter([*WRONG, bytes]), monkeypatch)
    with started(copy_submission("honest_constant", tmp_path)) as session:
        for _ in WRONG:
            with pytest.raises(SubmissionError, match="request: the submission spoke out of protocol"):
                ask(session, synthetic_request([5], 40))
        ask(session, synthetic_request([5], 40))


def test_numbers_do_not_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    send = socket.send_fds

    def keep(channel: socket.socket, buffers: Any, *rest: Any) -> int:
        seen.extend(buffers)
        return send(channel, buffers, *rest)

    monkeypatch.setattr(socket, "send_fds", keep)
    with started(copy_submission("honest_constant", tmp_path)) as session:
        for _ in range(3):
            ask(session, synthetic_request([5], 40))
        session.end()
    numbers = [message[1:] for message in seen if message[:1] == session_module.GO]
    assert len(set(numbers)) == len(numbers) == 4
    assert {len(number) for number in numbers} == {16}


def test_labels_are_copied_before_the_clock_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = session_module.LabelMemory.copy_away

    def copy_slowly(memory: Any, count: int) -> np.ndarray:
        time.sleep(GAP)
        return copy(memory, count)

    monkeypatch.setattr(session_module.LabelMemory, "copy_away", copy_slowly)
    with started(copy_submission("honest_constant", tmp_path)) as session:
        assert ask(session, synthetic_request([5], 40))[1] >= GAP
        session.end()
