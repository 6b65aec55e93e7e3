"""Failures of torch that the user can mend, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flair_scoring.base.errors import FlairError, UsageError


@contextmanager
def explained_failures() -> Iterator[None]:
    """Inside, a failure of torch that the user can mend becomes a UsageError or DataError of one sentence."""
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
            "the GPU's memory ran out; lower batch_size, which leaves the result nearly the same, or choose "
            "precision=bf16 or a smaller encoder"
        ) from error
    except RuntimeError as error:
        if "not implemented for 'Half'" in str(error):
            raise UsageError(
                f"precision=fp16: torch cannot compute the network in it here ({error}); choose "
                "precision=fp32 or bf16"
            ) from error
        if "DataLoader worker" not in str(error):
            raise
        raise UsageError(
            "a process that reads data was killed: memory, or shared memory (/dev/shm), ran out; lower "
            "workers or batch_size, or choose workers=0"
        ) from error
