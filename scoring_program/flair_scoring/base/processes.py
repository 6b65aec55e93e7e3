"""A child process that ends when its parent does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal to get when the parent ends
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child loads nothing


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Let the calling process receive `signum` as soon as its parent ends, in whichever way.

    `parent` is the process id that the parent found with os.getpid() before it forked: if it has ended
    since, this process ends at once. Only Linux can do this; on other systems the function does nothing.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
