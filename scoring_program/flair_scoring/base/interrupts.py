"""Ctrl-C and SIGTERM are delayed where stopping half-way would leave something behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_signals() -> Iterator[None]:
    """SIGINT and SIGTERM that arrive in the block take effect at its end.

    In other threads than the main one this does nothing, for Python handles signals in the main thread. A
    signal mask would not suffice: it covers one thread, and the system may deliver the signal to another.
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
