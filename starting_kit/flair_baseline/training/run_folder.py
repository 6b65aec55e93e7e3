"""The folder of a training run: one process at a time writes there, and a run begins or continues there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flair_baseline.checkpoint import PROVENANCE, STATE, WEIGHTS, read_state
from flair_baseline.config import Config, to_dict
from flair_baseline.training.history import CURVES, TABLE
from flair_baseline.training.schedules import LENGTHENED
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder, remove_files

LOCK = ".lock"
MACHINE_KEYS = ("workers", "device")  # what may differ when a run is resumed
FILES = (WEIGHTS, PROVENANCE, TABLE, CURVES)  # of an epoch, written before its state
END_KEYS = ("epochs", "stopping_patience")  # they decide when a run ends; epochs also make most schedules


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Inside, the folder RUN exists and belongs to this process; UsageError when another process has it.

    If this function made folders that stay empty, it removes them again.
    """
    missing = [folder for folder in (run, *run.parents) if not folder.exists()]
    make_folder(run)
    lock = FileLock(run / LOCK)
    try:
        with _held(lock, run):
            yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _held(lock: FileLock, run: Path) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{run}: another process trains there; choose another --output, or wait for its end"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            # before the release: afterwards the file may be the lock of another process
            Path(lock.lock_file).unlink()
        lock.release()


def remove_unfinished(run: Path) -> None:
    """Remove the files of a first epoch whose state could not be written, or else RUN could never begin."""
    if not (run / STATE).exists():
        remove_files(run / name for name in FILES)


def find_state(run: Path, config: Config, resume: bool) -> dict[str, Any] | None:
    """The state from which RUN continues, or None when RUN holds nothing of a run.

    UsageError when RUN holds a run and `resume` is not asked for, when that run has another configuration,
    and when its state is missing; DataError when the state is damaged. The end of the run may be another one:
    stopping_patience, and with schedule=plateau the number of epochs.
    """
    if not (run / STATE).exists():
        if left := [name for name in FILES if (run / name).exists()]:
            raise UsageError(
                f"{run}: holds {', '.join(left)} but no {STATE}, so it cannot be continued; choose another "
                "--output, or remove what is there"
            )
        return None
    if not resume:
        raise UsageError(f"{run}: holds a run already; continue it with --resume or choose another --output")
    state = read_state(run)
    # a key that an earlier version did not know had its default
    then, now = to_dict(Config()) | state["config"], to_dict(config)
    changed = [key for key in now if key not in (*MACHINE_KEYS, *END_KEYS) and now[key] != then[key]]
    lengthened = now["epochs"] != then["epochs"]
    if lengthened and config.schedule != LENGTHENED:
        changed.append("epochs")
    if changed:
        differences = ", ".join(f"{key} (then {then[key]}, now {now[key]})" for key in changed)
        reason = (
            f"a run cannot be lengthened or shortened with schedule={config.schedule}, whose learning rates "
            f"depend on the number of epochs from the first one on (with {LENGTHENED} it can); "
        )
        raise UsageError(
            f"{run}: cannot be resumed with another configuration: {differences}; "
            f"{reason if 'epochs' in changed else ''}give the same again, or choose another --output"
        )
    if config.epochs < (finished := len(state["rows"])):
        raise UsageError(f"{run}: has {finished} epochs already; give epochs={finished} or more")
    return state
