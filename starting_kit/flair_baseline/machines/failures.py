"""Failures of torch that the user can mend, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flair_scoring.base.errors import FlairError, UsageError


@contextmanager
def explained_failures(remedy: str | None = None) -> Iterator[None]:
    """Inside, a failure of torch that the user can mend becomes a UsageError or DataError of one sentence.

    `remedy` says what helps where memory runs out; without it, the sentence names settings of a training run.
    """
    try:
        yield
    except (FlairError, OSError) as error:
        message = str(error)
        if not message.startswith("Caught "):
            raise
        # a process that reads data raised it, and torch put that process's traceback before the message
        raise type(error)(message.rpartition(f"{type(error).__name__}: ")[2].strip()) from None
    except torch.OutOfMemoryError as error:
        raise UsageError(
            "the GPU's memory ran out; "
            + (
                remedy
                or "lower batch_size, which leaves the result nearly the same, or choose precision=bf16 or a "
                "smaller encoder"
            )
        ) from error
    except RuntimeError as error:
        if (advice := _find_advice(str(error), remedy)) is None:
            raise
        raise UsageError(advice) from error


def _find_advice(reason: str, remedy: str | None) -> str | None:
    """What the user can do about a RuntimeError of torch; None if it is not the user's to mend."""
    if "not implemented for 'Half'" in reason:
        return (
            f"precision=fp16: torch cannot compute the network in it here ({reason}); choose "
            "precision=fp32 or bf16"
        )
    if "does not have a deterministic implementation" in reason:
        operation = reason.split()[0]
        return (
            f"deterministic=true: torch has no deterministic algorithm here for {operation}, which the "
            "network or its loss needs; choose deterministic=false, or another decoder, encoder or loss"
        )
    if "DefaultCPUAllocator" in reason:
        return "memory ran out; " + (
            remedy
            or "lower batch_size, which leaves the result nearly the same, or choose a larger aerial_pooling "
            "or a smaller encoder"
        )
    if "DataLoader worker" in reason:
        return "a process that reads data was killed: memory, or shared memory (/dev/shm), ran out; " + (
            remedy or "lower workers or batch_size, or choose workers=0"
        )
    return None
