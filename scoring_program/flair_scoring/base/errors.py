"""What can go wrong, each with the exit code that every command of the kit uses for it."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from flair_scoring.base.terminal import printable

_LONGEST = 1500  # characters of one problem in a list


class FlairError(Exception):
    """A problem that the user can solve: the message says where, what, what was expected and what to do."""

    exit_code = 1


class UsageError(FlairError):
    """An option, a path or a configuration is wrong."""

    exit_code = 2


class DataError(FlairError):
    """The data set or the references are incomplete or damaged."""

    exit_code = 2


class SubmissionError(FlairError):
    """The submission cannot be opened, does not keep the interface or fails while it runs."""

    exit_code = 3


class PredictionError(FlairError):
    """The predictions are incomplete, damaged or not labels."""

    exit_code = 3


class TimeLimitError(FlairError):
    """The submission needs more time than the limit allows."""

    exit_code = 4


def list_problems(title: str, problems: Sequence[str], shown: int = 20) -> str:
    """One message for many problems: the title with their number, then the first `shown` of them.

    A problem is cut after 1,500 characters: a name in a stranger's zip can have 65,535.
    """
    lines = [f"{title} ({len(problems)} problem{'s' if len(problems) != 1 else ''}):"]
    lines += [f"  - {_cut(problem)}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"  … and {len(problems) - shown} more")
    return "\n".join(lines)


def list_names(names: Sequence[str], shown: int = 10) -> str:
    """The first `shown` names and how many more there are: "a, b, c and 4 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _cut(problem: str) -> str:
    return problem if len(problem) <= _LONGEST else f"{problem[:_LONGEST]} …"


def run_command(main: Callable[[], None]) -> NoReturn:
    """Run a command's `main`. A FlairError ends it with one message on stderr and the error's exit code.

    Ctrl-C exits with 130, SIGTERM with 143 and the end of the terminal with 129, after `finally` blocks have
    cleaned up. An OSError, a MemoryError or symbolic links in a circle that no code has handled exit with 2.
    Any other exception is our bug: it keeps its traceback and exits with 1.
    """

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else it is nohup's
        signal.signal(signal.SIGHUP, terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()  # here, where a failure can still be reported
    except FlairError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our stdout (head, less) has left
        _exit_unflushed(0)
    except RuntimeError as error:
        cause = error.__context__  # before Python 3.13, Path.resolve raises this at links in a circle
        if not isinstance(cause, OSError) or cause.errno != errno.ELOOP:
            raise
        problem = printable(f"{cause.filename}: its symbolic links lead in a circle")
        print(f"error: {problem}; give another path, or mend the links", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        path = "" if error.filename is None else f"{error.filename}: "
        reason = error.strerror or error
        problem = printable(f"{path}{reason}")
        print(f"error: {problem}; check the path, its permissions and the free space", file=sys.stderr)
        _exit_unflushed(2)
    except MemoryError:
        print("error: memory ran out; close other programs, or take a machine with more", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _exit_unflushed(code: int) -> NoReturn:
    """Exit and drop what could not be written: Python would try to write it again and change the code."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.exit(code)
