"""Cheating: lets the kernel send SIGKILL to the parent when a descriptor is used.

The kernel sends such signals in its own name. Some versions of Landlock let them pass, so the filter of
system calls must refuse them. A killed parent could tell nothing, so the submission first says what was
granted.
"""

import ctypes
import fcntl
import os
import signal

import torch

O_ASYNC, F_SETSIG, F_GETSIG, FIOASYNC, FIOSETOWN = 0o20000, 10, 11, 0x5452, 0x8901
libc = ctypes.CDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        ours, theirs = os.pipe()
        parent = os.getppid()
        granted = []
        for name, action in {
            "owner": lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, parent),
            "owner of a kind": lambda: fcntl.fcntl(
                ours, 15, (1).to_bytes(4, "little") + parent.to_bytes(4, "little")
            ),
            "owner by ioctl": lambda: fcntl.ioctl(ours, FIOSETOWN, parent.to_bytes(4, "little")),
            "signal": lambda: fcntl.fcntl(ours, F_SETSIG, signal.SIGKILL),
            "notice": lambda: fcntl.fcntl(ours, fcntl.F_SETFL, O_ASYNC),
            "notice by ioctl": lambda: fcntl.ioctl(ours, FIOASYNC, (1).to_bytes(4, "little")),
        }.items():
            try:
                action()
            except OSError:
                continue
            granted.append(name)
        owner, sent = fcntl.fcntl(ours, fcntl.F_GETOWN), fcntl.fcntl(ours, F_GETSIG)
        noticed = fcntl.fcntl(ours, fcntl.F_GETFL) & O_ASYNC
        print(f"granted: {granted}; owner {owner}, signal {sent}, notice {noticed}", flush=True)
        os.write(theirs, b"x")  # now the kernel sends the signal
        if owner == parent and sent == signal.SIGKILL and noticed:
            raise RuntimeError("CHEATED: a descriptor may kill the parent")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
