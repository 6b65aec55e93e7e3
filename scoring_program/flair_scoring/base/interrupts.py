"""Ctrl-C and SIGTERM that wait, where stopping half-way would leave something behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_signals() -> Iterator[None]:
    """SIGINT and SIGTERM take effect when the block has ended; other threads than the main one get neither.

    A mask would not do: it holds for one thread, and Python runs its handlers for what any thread received.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {
        signum: signal.signal(signum, lambda number, frame: arrived.append(number))
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if arrived:
            signal.raise_signal(arrived[0])
