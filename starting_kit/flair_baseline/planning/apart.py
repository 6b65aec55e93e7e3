"""Calls a function in a process of its own, which has ended, and left its GPU, when the result is there."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, TypeVar

from flair_scoring.base.errors import FlairError, UsageError
from flair_scoring.base.interrupts import held_signals
from flair_scoring.base.processes import end_with_parent

Result = TypeVar("Result")


def run_apart(function: Callable[..., Result], *arguments: Any, remedy: str) -> Result:
    """What `function` returns or raises, from a new process that has ended when this function returns.

    Function, arguments and result must be picklable. The new process begins afresh, for a forked one could
    not use CUDA. Ctrl-C and SIGTERM end it, too, after its `finally` blocks, and so does the end of this
    process. Raises UsageError, with `remedy`, if it is killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(os.getpid(), sender, function, arguments))
    with receiver:
        try:
            with sender:
                _start(process)
            kind, answer = _receive(receiver)
            process.join()
        except BaseException:
            _end(process)
            raise
    if kind == "error":
        raise answer
    if kind == "nothing":
        raise UsageError(f"{_describe_end(process.exitcode)}; perhaps memory ran out: {remedy}")
    return answer


def _start(process: BaseProcess) -> None:
    """Start the process so that Ctrl-C does not end it, with a traceback, before it can ignore Ctrl-C."""
    resource_tracker.ensure_running()  # `start` would make it, which unblocks signals
    with held_signals(), _blocked_signals():
        process.start()


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process that is started in the block has the terminal's signals blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _signals_of_the_terminal())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(receiver: Connection) -> tuple[str, Any]:
    try:
        return receiver.recv()
    except EOFError:
        return "nothing", None


def _end(process: BaseProcess) -> None:
    """End the process if it runs, and wait for its end; a second Ctrl-C does not stop the waiting."""
    if process.pid is not None:
        with held_signals():
            process.terminate()
            process.join()


def _signals_of_the_terminal() -> tuple[signal.Signals, ...]:
    """They reach the new process, too, but the parent alone answers them."""
    return signal.SIGINT, signal.SIGHUP


def _answer(parent: int, sender: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """In the new process: send what the function returns or raises."""
    for signum in _signals_of_the_terminal():
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _signals_of_the_terminal())
    signal.signal(signal.SIGTERM, _stop)
    end_with_parent(parent, signal.SIGTERM)
    try:
        answer = ("result", function(*arguments))
    except Exception as error:
        answer = ("error", _portable(error))
    sender.send(answer)


def _stop(signum: int, frame: object) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # the end of the parent may send it once more
    raise SystemExit(128 + signum)


def _portable(error: Exception) -> Exception:
    """The error as the parent can raise it; a bug of ours gets its traceback as a note."""
    if not isinstance(error, FlairError | OSError | MemoryError):
        error.add_note(traceback.format_exc())
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(traceback.format_exc())


def _describe_end(code: int | None) -> str:
    killed = code is not None and code < 0
    end = f"was killed by {signal.Signals(-(code or 0)).name}" if killed else f"ended with exit code {code}"
    return f"the process that predicts and compares {end}"
