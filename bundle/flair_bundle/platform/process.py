"""Run a program, and end it with this process. Its output is kept, or goes where this process's goes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_PATIENCE = 5  # seconds that a program has to clean up once it is asked to end
_MAX_BYTES = 16 << 20  # of each stream that are kept; the rest is dropped


@dataclass(frozen=True)
class Step:
    """An ended program: exit code, output as text, wall time in seconds."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run_step(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    show: bool,
    timeout: float | None = None,
    stop: Callable[[], object] | None = None,
) -> Step:
    """Run `command` to its end; an exception here, such as Ctrl-C, ends it first and then calls `stop`.

    `show`: what the program writes to stderr also appears on this process's stderr. `timeout` is in seconds;
    raises subprocess.TimeoutExpired beyond it.
    """
    begin = time.monotonic()
    streams: list[bytearray] = [bytearray(), bytearray()]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process only, which ends the program
    ) as process:
        readers = [
            threading.Thread(target=_collect, args=(source, kept, shown), daemon=True)
            for source, kept, shown in (
                (process.stdout, streams[0], False),
                (process.stderr, streams[1], show),
            )
        ]
        try:
            for reader in readers:
                reader.start()
            process.wait(timeout)
        except BaseException:
            _end(process, stop)
            raise
        finally:
            for reader in readers:
                reader.join()
    stdout, stderr = (kept.decode(errors="replace") for kept in streams)
    code = process.returncode
    return Step(code if code >= 0 else 128 - code, stdout, stderr, time.monotonic() - begin)


def run_attached(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    stop: Callable[[], object] | None = None,
) -> int:
    """The exit code of `command`, which writes where this process does. Otherwise as run_step."""
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            _end(process, stop)
            raise


def _end(process: subprocess.Popen[bytes], stop: Callable[[], object] | None) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
    if stop:
        stop()


def _collect(source: IO[bytes] | None, kept: bytearray, show: bool) -> None:
    assert source
    for line in source:
        if len(kept) + len(line) <= _MAX_BYTES:
            kept += line
        if show:
            sys.stderr.write(line.decode(errors="replace"))
            sys.stderr.flush()
