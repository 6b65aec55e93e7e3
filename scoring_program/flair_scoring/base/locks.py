"""Exclusive locks on open files, which end with the process that holds them (Linux and macOS)."""

from __future__ import annotations


def lock(descriptor: int, wait: bool) -> bool:
    """Whether this process now holds the exclusive lock of an open file.

    With `wait` the answer is True, perhaps after hours. Without, it is False while another process holds the
    lock. Closing the file releases the lock, and so does `unlock`.
    """
    import fcntl  # Windows has none, and this module must be importable there

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release the lock, even if a forked process still has the file open."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)
