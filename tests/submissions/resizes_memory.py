"""Cheating: shrinks, grows and seals the shared memory, so that the parent dies of its own requests."""

import fcntl
import os

import torch

F_SEAL_FUTURE_WRITE = 0x10  # newer than Python's list


def shared_memory():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                yield int(name)
        except OSError:
            continue


def require_refusal(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    raise RuntimeError(f"CHEATED: {action.__name__} {arguments}")


class Model:
    def __init__(self, submission_dir, device): ...

    def predict(self, batch):
        found = list(shared_memory())
        if not found:
            raise RuntimeError("no shared memory to attack")
        for descriptor in found:
            size = os.fstat(descriptor).st_size
            for length in (0, size // 2, 2 * size):
                require_refusal(os.ftruncate, descriptor, length)
            require_refusal(fcntl.fcntl, descriptor, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
