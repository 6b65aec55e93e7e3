"""Requests are read from the disk and sealed off the clock: by this process, or by other processes.

On the CPU this process reads while the submission stands still, so that nothing of ours runs beside the
submission. On CUDA other processes read ahead, on processors of their own. Where there are too few of them,
these processes use all processors, but only while the submission stands still. A thread that reads ahead
would share the interpreter's lock with the clock.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from flair_ingestion.dataset import Patch, SuperArea, read_ahead
from flair_ingestion.devices.processors import CPU_MAX, TOPOLOGY, divide_processors
from flair_ingestion.order import areas_to_open
from flair_ingestion.sandbox import policy
from flair_ingestion.shared_memory import SealedRequest, read_request, write_request
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.processes import end_with_parent

AHEAD = 2  # the most requests that a reader has ready
# All readers together hold no more bytes of requests. This is a quarter of what the submission may hold
# (memory_gib), and enough for 17 readers with 32 patches in the default window. Only large windows leave
# readers without work
READ_AHEAD_BYTES = 8 << 30
_PATCHES_THAT_PAY = 8  # for fewer patches of an area, reading each window alone is quicker
_MESSAGE_BYTES = 1 << 16
_READY = b"r"
_ENDED = "a process that reads the data has ended; its error stands above, or the machine ran out of memory"

_PROGRAM = "from flair_ingestion.reading import serve; serve()"

Groups = Sequence[Sequence[Patch]]
Requests = Generator[SealedRequest, None, None]


def read_here(groups: Groups, superpatch_size: int, number: int = 0, readers: int = 1) -> Requests:
    """The requests in their order; each is read when it is asked for. Raises DataError.

    With several `readers`, of which this one has a `number` from 0, these are every readers-th request, and
    every readers-th area is read ahead.
    """
    areas = 0
    for index, (group, opened) in enumerate(zip(groups, _areas_to_read(groups), strict=True)):
        for area in opened:
            if areas % readers == number:
                read_ahead(area)
            areas += 1
        if index % readers == number:
            yield write_request(read_request(group, superpatch_size))


def _areas_to_read(groups: Groups) -> Iterator[list[SuperArea]]:
    """For each group, the areas whose whole series are read before it, without areas of few patches."""
    patches = [patch for group in groups for patch in group]
    counts = Counter(patch.super_area for patch in patches)
    openings = iter(areas_to_open(patches))
    for group in groups:
        opened = [area for _ in group for area in next(openings)]
        yield [area for area in opened if counts[area] >= _PATCHES_THAT_PAY]


class Readers:
    """Processes that read requests ahead, on `processors` of their own.

    Without (None) they use all processors, with the kernel's lowest priority, and stand still while a
    submission has a request. They must start before a submission does, or they would be taken for its
    processes.
    """

    def __init__(self, readers: int, processors: set[int] | None) -> None:
        self.processors = processors
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[socket.socket] = []
        try:
            for _ in range(readers):
                self._start(processors)
        except BaseException:
            self.close()
            raise

    def _start(self, processors: set[int] | None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channels.append(ours)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-B", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                # sys.path, so that it finds the modules that this process has found
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the readers
            )
        self._processes.append(process)
        if processors:
            os.sched_setaffinity(process.pid, processors)
        else:
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))

    def read(self, groups: Groups, superpatch_size: int, largest: int) -> Requests:
        """The requests in their order, read ahead; raises DataError. It may be called once.

        The largest request has `largest` bytes. Where these are many, some readers never learn what to read.
        They are not ended, or a process of the submission could get the number of one of them.
        """
        used = _count_that_fit(len(self._processes), largest)
        channels = self._channels[:used]
        for number, (process, channel) in enumerate(zip(self._processes, channels, strict=False)):
            assert process.stdin
            try:
                if channel.recv(1) != _READY:
                    raise UsageError(_ENDED)
                with process.stdin as stream:
                    pickle.dump((groups, superpatch_size, number, used), stream)
            except OSError:
                raise UsageError(_ENDED) from None
        for index in range(len(groups)):
            yield self._take(channels[index % used])

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Inside, readers without processors of their own stand still; the others go on.

        It is for the time after the first request was taken.
        """
        sharing = [] if self.processors else self._processes
        for process in sharing:
            process.send_signal(signal.SIGSTOP)
        try:
            for process in sharing:
                with suppress(ChildProcessError):  # it has ended, which is told when its request is taken
                    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            yield
        finally:
            for process in sharing:
                process.send_signal(signal.SIGCONT)

    def _take(self, channel: socket.socket) -> SealedRequest:
        try:
            message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 1)
            channel.send(b"+")
        except OSError:
            message = b""
        if not message:
            raise UsageError(_ENDED)
        told = json.loads(message)
        if "error" in told:
            raise DataError(told["error"])
        return SealedRequest(descriptors[0], told["count"])

    def close(self) -> None:
        """End the readers."""
        for channel in self._channels:
            channel.close()
        for process in self._processes:
            process.kill()
            with suppress(OSError):  # the input of a reader that has ended cannot be flushed
                process.communicate()


def _count_that_fit(readers: int, largest: int) -> int:
    """How many of the readers may read, at least one, so that they hold at most READ_AHEAD_BYTES together.

    A reader holds AHEAD requests that are ready or in the making, and the arrays of the one in the making.
    """
    return max(1, min(readers, READ_AHEAD_BYTES // ((AHEAD + 1) * largest)))


@contextmanager
def start_readers(topology: Path = TOPOLOGY, cpu_max: Path = CPU_MAX) -> Iterator[Readers]:
    """Start the readers, and end them at the end of the `with` block.

    `divide_processors` says on which processors they read, and which ones this process and the submission
    that it starts use alone. The kernel tells it of cores in `topology`, and of a quota in `cpu_max`.
    """
    allowed = os.sched_getaffinity(0)
    division = divide_processors(allowed, topology, cpu_max)
    with ExitStack() as stack:
        readers = Readers(division.readers, division.readers_have or None)
        stack.callback(readers.close)
        if division.readers_have:
            stack.callback(os.sched_setaffinity, 0, allowed)
            os.sched_setaffinity(0, division.ours)
        yield readers


def serve() -> None:
    """The program of a reader: it reads and seals requests, at most AHEAD more than were taken."""
    end_with_parent(int(sys.argv[2]))  # a reader at rest could not see that the other side has closed
    policy.shield_parent()
    channel = socket.socket(fileno=int(sys.argv[1]))
    with suppress(ConnectionError):  # the other side has closed
        channel.send(_READY)
    try:
        groups, superpatch_size, number, readers = pickle.load(sys.stdin.buffer)
    except EOFError:  # the other side has ended before it said what to read
        return
    with suppress(ConnectionError):  # the other side has closed: it needs no more
        _send_all(channel, read_here(groups, superpatch_size, number, readers))
        while channel.recv(1):  # to close first would throw away what the other side has not received
            pass


def _send_all(channel: socket.socket, requests: Requests) -> None:
    for index in count():
        if index >= AHEAD and not channel.recv(1):
            return
        try:
            request = next(requests)
        except StopIteration:
            return
        except (DataError, UsageError) as error:
            channel.send(json.dumps({"error": str(error)}).encode())
            return
        socket.send_fds(channel, [json.dumps({"count": request.count}).encode()], [request.descriptor])
        request.close()
