"""After Ctrl-C or SIGTERM: the advice which command continues the work."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 143  # exit code after SIGTERM


@contextmanager
def advice_if_interrupted(advice: str) -> Iterator[None]:
    """Print `advice`, unless it is empty, to stderr when Ctrl-C or SIGTERM ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        if advice and (isinstance(end, KeyboardInterrupt) or end.code == TERMINATED):
            print(advice, file=sys.stderr)
        raise


def command_that_goes_on(*options: str) -> str:
    """The command line of this process, with `options` added if they are missing.

    Under torchrun a process does not know the whole command, and gets a description of it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return " ".join(["the same torchrun command", *(f"with {option}" for option in options)])
    return shlex.join([*sys.orig_argv, *(option for option in options if option not in sys.orig_argv)])
