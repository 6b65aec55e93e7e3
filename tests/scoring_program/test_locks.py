"""Locks on files, and processes that end with their parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flair_scoring.base.locks import lock, unlock
from flair_scoring.base.processes import end_with_parent


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as one, (tmp_path / "lock").open("a") as two:
        assert lock(one.fileno(), wait=False)
        assert not lock(two.fileno(), wait=False)
        unlock(one.fileno())
        assert lock(two.fileno(), wait=True)
        assert not lock(one.fileno(), wait=False)
        two.close()
        assert lock(one.fileno(), wait=False)


def fork(run: Callable[[], None]) -> int:
    """The id of a process that calls `run` and then waits for a signal."""
    if pid := os.fork():
        return pid
    try:
        run()
        time.sleep(60)
    finally:
        os._exit(3)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_ends_with_its_parent() -> None:
    read, write = os.pipe()

    def be_parent() -> None:
        parent = os.getpid()
        fork(lambda: (end_with_parent(parent, signal.SIGTERM), os.write(write, b"x")))
        time.sleep(60)

    parent = fork(be_parent)
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"x"  # the child is ready, and holds the pipe open as long as it runs
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert pipe.read() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_whose_parent_has_already_ended_ends_at_once() -> None:
    _, status = os.waitpid(fork(lambda: end_with_parent(os.getppid() + 1)), 0)
    assert os.waitstatus_to_exitcode(status) == 1
