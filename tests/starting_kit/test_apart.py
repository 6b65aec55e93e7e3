"""A function in a process of its own: its result, its errors, its end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from flair_baseline.planning.apart import run_apart
from flair_scoring.base.errors import DataError, UsageError
from programs import wait_until

PROGRAM = """
import os, sys, time
from pathlib import Path

from flair_baseline.planning.apart import run_apart
from flair_scoring.base.errors import run_command


def work(folder):
    (folder / "started").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    finally:
        (folder / "cleaned").touch()


if __name__ == "__main__":
    run_command(lambda: run_apart(work, Path(sys.argv[1]), remedy="wait"))
"""


def tell_process(word: str) -> tuple[str, int]:
    return word, os.getpid()


def fail(error: Exception) -> None:
    raise error


def divide() -> float:
    return 1 / 0


def end_by(signum: int) -> None:
    os.kill(os.getpid(), signum)


def test_the_result_comes_from_another_process_that_has_ended() -> None:
    word, number = run_apart(tell_process, "é " * 100_000, remedy="")
    assert word == "é " * 100_000
    assert number != os.getpid()
    assert not multiprocessing.active_children()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.parametrize(
    "error", [UsageError("x: is wrong"), DataError("y"), FileNotFoundError(2, "No such file", "a b.tif")]
)
def test_an_error_is_that_of_the_function(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run_apart(fail, error, remedy="")
    assert str(caught.value) == str(error)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_apart(divide, remedy="")
    assert "in divide" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_process_is_told(name: str) -> None:
    end = "was killed by SIGKILL" if name == "SIGKILL" else "ended with exit code 143"
    with pytest.raises(UsageError, match=f"{end}; perhaps memory ran out: take less"):
        run_apart(end_by, getattr(signal, name), remedy="take less")


def is_running(number: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(
    ("send", "signum", "code", "said"),
    [
        (os.killpg, signal.SIGINT, 130, "interrupted\n"),  # as a terminal does it
        (os.kill, signal.SIGINT, 130, "interrupted\n"),
        (os.killpg, signal.SIGHUP, 129, ""),
        (os.kill, signal.SIGTERM, 143, ""),
        (os.kill, signal.SIGKILL, -9, ""),
    ],
)
def test_no_process_stays_when_the_program_is_stopped(
    send: Callable[[int, int], None], signum: int, code: int, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(folder)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=paths_of_this()
    ) as process:
        wait_until(lambda: (folder / "started").exists() and (folder / "started").read_text() != "")
        send(process.pid, signum)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (code, said)
    wait_until(lambda: not is_running(int((folder / "started").read_text())))
    assert (folder / "cleaned").exists()


def paths_of_this() -> dict[str, str]:
    """The environment, in which other processes import what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
