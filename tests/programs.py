"""Runs programs of the kit in the process of the tests; waits for others.

A process of its own would cost seconds, most of them for the import of torch. Only a test about processes
needs one.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flair_scoring.base.errors import run_command

KIT = Path(__file__).resolve().parents[1]


def run_here(
    program: str, *arguments: object, cwd: Path | None = None, folder: str = "starting_kit"
) -> subprocess.CompletedProcess[str]:
    """Run `python FOLDER/PROGRAM.py ARGUMENTS` in `cwd`; return an ended process. Our own bugs are raised."""
    line = [f"{program}.py", *map(str, arguments)]
    told, said = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(KIT / folder)
        patch.setattr(sys, "argv", line)
        patch.chdir(cwd or Path.cwd())
        main = importlib.import_module(program).main
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
            try:
                run_command(main)
            except SystemExit as end:
                code = end.code
            finally:
                signal.signal(signal.SIGTERM, handler)
    assert isinstance(code, int)
    return subprocess.CompletedProcess(line, code, told.getvalue(), said.getvalue())


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Ask 20 times a second; asserts that the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
