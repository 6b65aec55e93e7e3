"""The child process seen from the parent: its start, messages with deadlines, output, memory and end.

The parent does not trust the child: an unexpected message, silence beyond a budget, or the child's death is
an error of the submission.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_ingestion.clock import clock
from flair_ingestion.processes import memory, process_tree
from flair_ingestion.processes.holdings import BLOCK_MIB
from flair_ingestion.processes.look import KeptFiles
from flair_ingestion.processes.standstill import Gaps, Stop, stop_group, was_active
from flair_ingestion.sandbox.runner import MAX_MESSAGE
from flair_ingestion.sandbox.scratch import ScratchWatch
from flair_scoring.base.bounded_json import parse_json
from flair_scoring.base.errors import FlairError, SubmissionError, TimeLimitError

RUNNER = Path(__file__).with_name("runner.py")
# Of one submission. A library may start one thread for each core, and a submission may use several libraries
MAX_PROCESSES, MAX_THREADS = 256, 4096
# Between two checks of the child: the usual seconds; the least multiple of what a check takes; the most
# seconds
_WATCH_SECONDS, _WATCH_SHARE, _WATCH_SELDOM = 1.0, 4, 10.0
_DEATH_SECONDS = 2.0  # to wait for the exit code after the channel has closed
_LOG_BYTES, _LOG_LINES = 1 << 14, 20


@dataclass(frozen=True)
class Budget:
    """A step of the child, the seconds that it may take, and the error if it takes longer."""

    step: str
    seconds: float
    exceeded: FlairError


class Child:
    """The process of runner.py, in a session of its own.

    `environment` is its whole environment, and `folder` its working folder and scratch. Every method may
    raise SubmissionError, and TimeLimitError after `wall`, a time on `clock`.
    """

    def __init__(
        self, environment: dict[str, str], folder: Path, memory_gib: float, scratch_gib: float, wall: float
    ) -> None:
        self.memory_gib, self.scratch_gib, self.wall, self.peak_mib = memory_gib, scratch_gib, wall, 0.0
        self.gaps = Gaps()
        self._stop: Stop | None = None
        self._known: list[int] = []
        self._handed: dict[int, float] = {}
        self._spared = process_tree.children(os.getpid())
        self._files, self._starter = KeptFiles(), threading.get_native_id()
        self._scratch = ScratchWatch(folder, scratch_gib * 1024)
        self._watched, self._interval = clock(), _WATCH_SECONDS
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(RUNNER), str(control.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[control.fileno()],
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._log = bytearray()
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()

    def freeze(self) -> None:
        """Stop all processes of the submission until `thaw`, and look whether they stand still."""
        self._stop = stop_group(self.pid, self.look, self._known)

    def end_gap(self) -> None:
        """Look whether the processes have stood still since `freeze`, and count this gap in `gaps`."""
        self._known = [process.pid for process in self.look()]
        if self._stop:
            self.gaps.count(self._stop.confirmed, was_active(self._stop, self._known))

    def thaw(self) -> None:
        """Let all processes run again, also those that have left the group where the sandbox is too weak."""
        with suppress(ProcessLookupError):  # a death is noticed where an answer is awaited
            os.killpg(self.pid, signal.SIGCONT)
        for pid in self._stop.pids if self._stop else ():
            if pid != self.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self._stop = None

    def look(self) -> list[process_tree.ProcessStates]:
        """All processes of the submission with the states of their threads."""
        return process_tree.family(self.pid, self._spared, self._files, self._starter)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one message and hand over descriptors; the death of the child is noticed by `receive`.

        Memory that is handed over counts as the child's own for as long as the child keeps it.
        """
        for descriptor in descriptors:
            status = os.fstat(descriptor)
            self._handed[status.st_ino] = status.st_blocks * BLOCK_MIB
        with suppress(OSError):
            socket.send_fds(self._control, [message], list(descriptors))

    def receive(self, budget: Budget) -> bytes:
        """The next message of the child; raises the budget's error if none comes in time."""
        end = clock() + budget.seconds
        while True:
            now = clock()
            if now > self.wall:
                raise TimeLimitError(f"{budget.step}: the time for the whole run is over (wall_seconds)")
            if now > end:
                raise budget.exceeded
            self._control.settimeout(max(min(_WATCH_SECONDS, end - now, self.wall - now), 0.001))
            try:
                message = self._control.recv(MAX_MESSAGE)
            except TimeoutError:
                self.watch(budget.step)
                continue
            except OSError:
                message = b""
            if not message:
                raise self._death(budget.step)
            return message

    def receive_event(self, name: str, budget: Budget) -> Any:
        """The value of the next message, which must be the JSON object {name: value}."""
        message = self.receive(budget)
        event = _parse(message)
        if name not in event:
            raise self.failure(message, budget.step)
        return event[name]

    def failure(self, message: bytes, step: str) -> SubmissionError:
        """The error for an unexpected message, which may tell of an exception in the submission."""
        event = _parse(message)
        if "failed" not in event:
            return SubmissionError(f"{step}: the submission spoke out of protocol")
        return SubmissionError(_describe_failure(event["failed"], step))

    def refuse_early_message(self, step: str) -> None:
        """Raises SubmissionError if the child has sent a message before it was asked."""
        self._control.settimeout(0)
        try:
            message = self._control.recv(1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            raise self._death(step)
        raise SubmissionError(f"{step}: the submission answered before it was asked")

    def watch(self, step: str) -> None:
        """Raises SubmissionError if the child has died, or holds or runs more than it may.

        It looks once a second at most, and less often where many processes make a look slow.
        """
        begin = clock()
        if begin - self._watched < self._interval:
            return
        try:
            self._watch(step)
        finally:
            self._watched = clock()
            self._interval = min(max(_WATCH_SECONDS, _WATCH_SHARE * (self._watched - begin)), _WATCH_SELDOM)

    def sees_memory(self) -> bool:
        """Whether this machine shows how much memory the child holds."""
        return math.isfinite(memory.held_mib(self.look(), 0.0))

    def _watch(self, step: str) -> None:
        if self._process.poll() is not None:
            raise self._death(step)
        family = process_tree.descendants(os.getpid(), self._spared)
        threads = sum(process.threads for process in family)
        if len(family) > MAX_PROCESSES or threads > MAX_THREADS:
            raise SubmissionError(
                f"{step}: the submission runs {len(family)} processes with {threads} threads; "
                f"at most {MAX_PROCESSES} and {MAX_THREADS} are allowed"
            )
        held = memory.held_mib(family, self.memory_gib * 1024, self._handed)
        self.peak_mib = max(self.peak_mib, held if math.isfinite(held) else 0.0, memory.peak_mib(self.pid))
        if held > self.memory_gib * 1024:
            much = f"{held / 1024:.1f} GiB" if held < math.inf else "memory that it hides"
            raise SubmissionError(
                f"{step}: the submission holds {much}; memory_gib allows {self.memory_gib:g}"
            )
        if excess := self._scratch.excess([process.pid for process in family]):
            much = f"{excess.mib / 1024:.1f} GiB" if excess.complete else "more than can be counted"
            raise SubmissionError(
                f"{step}: the submission keeps {much} in its scratch folder; scratch_gib allows "
                f"{self.scratch_gib:g}"
            )

    def close(self) -> None:
        """End every process of the submission, and wait until all are gone."""
        self.peak_mib = max(self.peak_mib, memory.peak_mib(self.pid))
        process_tree.end_descendants(self._spared)
        self._files.close()
        self._process.poll()
        self._control.close()
        self._reader.join()

    def last_output(self) -> list[str]:
        """The last lines that the submission has printed, without control characters; after `close`."""
        text = self._log.decode(errors="replace")
        return ["".join(filter(str.isprintable, line)) for line in text.splitlines()[-_LOG_LINES:]]

    def _death(self, step: str) -> SubmissionError:
        try:
            code = self._process.wait(_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            return SubmissionError(f"{step}: the submission closed its channel to us")
        if code >= 0:
            return SubmissionError(f"{step}: the submission's process ended with exit code {code}")
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        hint = "; perhaps the machine ran out of memory" if -code == signal.SIGKILL else ""
        return SubmissionError(f"{step}: the submission's process was killed by {name}{hint}")

    def _keep_log(self) -> None:
        assert self._process.stdout
        with self._process.stdout as stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                self._log += chunk
                del self._log[:-_LOG_BYTES]


def _parse(message: bytes) -> dict[str, Any]:
    """The JSON object in a message; empty if the message is no JSON object."""
    try:
        event = parse_json(message)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _describe_failure(failed: Any, step: str) -> str:
    """A sentence and the frames of the submission, from `failed`, in which the child may write anything."""
    failed = failed if isinstance(failed, dict) else {}
    frames = failed.get("frames")
    lines = [f"{step}: {_printable(failed.get('sentence'))}"]
    lines += [f"  at {_printable(frame)}" for frame in frames[:20]] if isinstance(frames, list) else []
    return "\n".join(lines)


def _printable(text: Any) -> str:
    return "".join(character if character.isprintable() else " " for character in str(text)[:4000])
