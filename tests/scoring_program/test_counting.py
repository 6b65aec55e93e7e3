"""Scoring on several processes: none outlives a kill, none waits for ever, each kill is explained."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tqdm
from sample_patches import PLACES, Patches

from flair_scoring.base.errors import UsageError
from flair_scoring.counting import count_pairs
from flair_scoring.nomenclature import FLAIR_12

PROGRAM = Path(__file__).resolve().parents[2] / "scoring_program"
PAIRS = 6000  # seconds of work


@pytest.fixture
def scoring(patches: Patches, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """score.py at work on two processes."""
    references, predictions = tmp_path / "many_references", tmp_path / "many_predictions"
    references.mkdir()
    predictions.mkdir()
    id = min(PLACES)
    for number in range(PAIRS):
        os.link(patches.reference(id), references / f"MSK_{number:06d}.tif")
        os.link(patches.prediction(id), predictions / f"PRED_{number:06d}.tif")
    command = [sys.executable, PROGRAM / "score.py", predictions, references, "--jobs", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=listen_to_ctrl_c) as process:
        yield process
        process.kill()


def listen_to_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it


def wait_for_children(process: subprocess.Popen[str], count: int) -> list[int]:
    """Ids of its processes, once there are so many."""
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while len(children := task.read_text().split()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return list(map(int, children))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.01)


def test_a_killed_process_ends_in_one_message(scoring: subprocess.Popen[str]) -> None:
    children = wait_for_children(scoring, 2)
    os.kill(children[0], signal.SIGKILL)
    output, errors = scoring.communicate(timeout=60)
    assert (scoring.returncode, output) == (2, "")
    assert "one of 2 scoring processes was killed" in errors
    assert "Traceback" not in errors
    wait_until_ended(children)


@pytest.mark.parametrize("started", [0, 1])
def test_where_no_further_process_may_run_none_waits_for_ever(
    patches: Patches, monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    fork, forks = os.fork, iter(range(started))

    def refuse() -> int:
        if next(forks, None) is None:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    id = min(PLACES)
    pairs = [(str(patches.reference(id)), str(patches.prediction(id)))] * 300
    with pytest.raises(UsageError, match=r"2 scoring processes cannot be run .* fewer of them with --jobs"):
        count_pairs(pairs, FLAIR_12, 2)
    for process in multiprocessing.active_children():
        process.join(30)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_nothing_outlives_the_command(scoring: subprocess.Popen[str], how: signal.Signals) -> None:
    children = wait_for_children(scoring, 2)
    scoring.send_signal(how)
    output, errors = scoring.communicate(timeout=60)
    assert scoring.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[how.name]
    assert output == ""
    assert "Traceback" not in errors
    wait_until_ended(children)


def test_ctrl_c_while_the_bar_is_made_leaves_no_traceback(
    patches: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:  # of tqdm: up to 4.69 it closes what was never whole
        signal.raise_signal(signal.SIGINT)
        held.append(True)

    held: list[bool] = []
    ignored: list[object] = []
    monkeypatch.setattr(tqdm.std, "TMonitor", interrupt)
    monkeypatch.setattr(tqdm.tqdm, "monitor", None)
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    id = min(PLACES)
    pair = str(patches.reference(id)), str(patches.prediction(id))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            count_pairs([pair], FLAIR_12, 1)
    finally:
        signal.signal(signal.SIGINT, handler)
    gc.collect()
    assert held, "the interruption came while the bar was made"
    assert not ignored
