"""`map` over several processes, none of which outlives this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager

from flair_scoring.base.errors import UsageError
from flair_scoring.base.interrupts import held_signals
from flair_scoring.base.processes import end_with_parent


def default_jobs() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def parallel_map(
    jobs: int, work: str = "scoring", remedy: str = "take fewer of them with --jobs"
) -> Iterator[Callable[[Callable, Iterable], Iterable]]:
    """A function like `map` that shares its calls among `jobs` processes. They end with the block.

    Below two jobs it is `map` itself. Raises UsageError if the processes cannot be started or one is killed;
    `work` and `remedy` are words of its message.
    """
    if jobs < 2:
        yield map
        return
    # A fork takes milliseconds and needs no importable __main__. It is safe beside other threads because the
    # children decode, count and encode: they never wait for a lock that a thread of the parent could hold.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    before = set(multiprocessing.active_children())

    def start(function: Callable, items: Iterable) -> Iterable:
        with held_signals():  # an exception while the pool starts would leave it waiting for ever
            return pool.map(function, items)

    try:
        with ExitStack() as stack:
            pool = ProcessPoolExecutor(jobs, context, _prepare_process, (os.getpid(),))
            stack.callback(pool.shutdown, cancel_futures=True)
            yield start
    except BrokenProcessPool:
        raise UsageError(f"one of {jobs} {work} processes was killed; if memory ran out, {remedy}") from None
    except OSError as error:  # some processes may run already and wait for work
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise UsageError(f"{jobs} {work} processes cannot be run ({error.strerror}); {remedy}") from None


def _prepare_process(parent: int) -> None:
    """Leave Ctrl-C to the parent, obey SIGTERM, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(parent)
