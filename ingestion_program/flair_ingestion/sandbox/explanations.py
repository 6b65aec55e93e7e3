"""What a participant is told of an exception in a submission: a sentence, and where it was raised.

runner.py loads this file by its path before it enters the sandbox, so it imports the standard library only.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

# The kit's own packages: a submission that needs one brings it along in its zip
KIT = ("flair_scoring", "flair_ingestion", "flair_baseline", "flair_toy")
_SENTENCE = 2000  # the most characters of the sentence
_FRAMES, _FRAME = 8, 300  # the most frames that are told, and the most characters of each
CAUSE = 200  # the most characters of an exception's own words behind our advice
_DENIED = (errno.EACCES, errno.EPERM)
# Files and packages through which a library reaches the network, or other processes
_NETWORK = {
    *("socket.py", "ssl.py", "hub.py", "urllib", "http", "urllib3", "requests", "httpx", "httpx2"),
    *("httpcore", "httpcore2", "aiohttp", "huggingface_hub"),
}
_PROCESSES = {"multiprocessing", "loky"}
_BATCH = ("aerial", "sentinel", "sentinel_masks", "sentinel_dates", "metadata")
_RUNNER = str(Path(__file__).with_name("runner.py"))


class Refusal(Exception):
    """The submission does not keep the interface; the message says how."""


def describe_error(error: BaseException, folder: str | None) -> dict[str, Any]:
    """What happened in one sentence, and the `frames`: the submission's last ones, then a library's last one.

    `folder` is the submission's. Where an exception in the chain shows that the sandbox or a wrong path is
    the cause, the sentence says so.
    """
    sentence = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
    chain = causes(error)
    advised = ((cause, advise(cause, folder, cause is error)) for cause in reversed(chain))
    cause, advice = next(((cause, told) for cause, told in advised if told), (error, None))
    if advice:
        sentence = f"{advice} ({' '.join(sentence[:CAUSE].split())})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if folder and is_below(f.filename, folder)]
    told = [describe_frame(frame, folder) for frame in frames[-_FRAMES:]]
    innermost = innermost_frame(cause)
    if innermost and not (folder and is_below(innermost.filename, folder)):
        told.append(describe_frame(innermost, folder))
    return {"sentence": sentence[:_SENTENCE], "frames": told}


def causes(error: BaseException) -> list[BaseException]:
    """The exception and those that led to it; the one that was raised first comes last."""
    chain = [error]
    while len(chain) < _FRAMES:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or before in chain:
            break
        chain.append(before)
    return chain


def advise(error: BaseException, folder: str | None, outermost: bool) -> str | None:
    """The most likely cause of an exception, and the way out; None if the sandbox has nothing to do with it.

    Beginners' mistakes are explained only for the `outermost` exception: a library may have handled others.
    """
    innermost = innermost_frame(error)
    within = set(Path(innermost.filename).parts) if innermost else set()
    denied = isinstance(error, OSError) and error.errno in _DENIED
    if (denied and within & _PROCESSES) or "shared memory object" in str(error):
        return (
            "locks, queues, pools and memory of multiprocessing need /dev/shm, which a submission does not "
            "have: use a ThreadPoolExecutor, and num_workers=0 for a DataLoader"
        )
    path = getattr(error, "filename", None)
    passed = {part for f in traceback.extract_tb(error.__traceback__) for part in Path(f.filename).parts}
    unreachable = denied or isinstance(error, socket.gaierror | ConnectionError | TimeoutError)
    if unreachable and path is None and passed & _NETWORK:
        return (
            "a submission has no network: put what it would download, pretrained weights for example, into "
            "the zip"
        )
    if denied and isinstance(path, str | os.PathLike):
        return explain_path(os.path.abspath(path), folder)
    if denied:
        return "the sandbox refuses some system calls, probably this one; the page Questions lists them"
    return explain_mistake(error, folder) if outermost else None


def explain_path(path: str, folder: str | None) -> str:
    """Why the sandbox does not open a file."""
    real = os.path.realpath(path)
    below = [entry for entry in sys.path if entry and entry != folder]
    if real != path and any(is_below(path, entry) and not is_below(real, entry) for entry in below):
        return (
            f"{path} is a link to {real}, which a submission cannot read: install the package itself in "
            "place of the link"
        )
    return (
        "a submission reads its own folder, the installed packages and the system's libraries, and reads and "
        f"writes its scratch folder {tempfile.gettempdir()}, but nothing else"
    )


def explain_mistake(error: BaseException, folder: str | None) -> str | None:
    """The way out of mistakes that beginners make; None for all others."""
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] not in KIT:
        return f"{error.name!r} is neither in the submission nor installed: bring it along in the zip"
    if isinstance(error, AttributeError) and isinstance(error.obj, dict) and error.name in _BATCH:
        return f"batch is a dict: write batch[{error.name!r}]"
    missing = error.filename if isinstance(error, FileNotFoundError) else None
    if not folder or not isinstance(missing, str | os.PathLike):
        return None
    name = os.fspath(missing)
    if not isinstance(name, str):
        return None
    if os.path.isabs(name):
        if not is_below(os.path.normpath(name), folder):
            return None
        name = os.path.relpath(name, folder)
    elif os.path.exists(os.path.join(folder, name)):
        return f"relative paths do not start in the submission's folder: open submission_dir / {name!r}"
    return None if os.path.exists(os.path.join(folder, name)) else f"the submission holds no file {name}"


def innermost_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Where an exception was raised; frames of runner.py and of the import system are passed over."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (_RUNNER, "<frozen importlib")
    return next((frame for frame in reversed(frames) if not frame.filename.startswith(own)), None)


def describe_frame(frame: traceback.FrameSummary, folder: str | None) -> str:
    """File, line, function and source line; the file's path is relative to the submission or its packages."""
    roots = [folder or "", *sys.path]
    roots = [root for root in roots if root and is_below(frame.filename, root)]
    name = os.path.relpath(frame.filename, max(roots, key=len)) if roots else frame.filename
    return f"{name}:{frame.lineno} in {frame.name}: {frame.line}"[:_FRAME]


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, judged by their spelling alone."""
    return path.startswith(os.path.join(folder, ""))
