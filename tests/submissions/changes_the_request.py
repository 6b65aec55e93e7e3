"""Cheating: keeps the descriptor of a request and tries every way to change the memory behind it.

Somebody else might read what it has changed: a later request, the next attempt, or the parent.
"""

import ctypes
import fcntl
import mmap
import os
import socket
import sys

import torch

FALLOCATE, PUNCH, F_SEAL_FUTURE_WRITE = 285, 3, 0x10  # system call of x86_64; newer than Python's list
libc = ctypes.CDLL(None, use_errno=True)


def punch(memory):
    if libc.syscall(FALLOCATE, memory, PUNCH, ctypes.c_long(0), ctypes.c_long(4096)) == -1:
        raise OSError(ctypes.get_errno(), "refused")


def ways(memory):
    size, again = os.fstat(memory).st_size, f"/proc/self/fd/{memory}"
    return {
        "writes": lambda: os.pwrite(memory, b"x", 0),
        "opens it again and writes": lambda: os.pwrite(os.open(again, os.O_RDWR), b"x", 0),
        "opens it to append": lambda: os.write(os.open(again, os.O_WRONLY | os.O_APPEND), b"x"),
        "maps it writable": lambda: mmap.mmap(memory, size),
        "shrinks it": lambda: os.ftruncate(memory, 0),
        "grows it": lambda: os.ftruncate(memory, 2 * size),
        "empties it": lambda: os.open(again, os.O_RDWR | os.O_TRUNC),
        "makes a hole": lambda: punch(memory),
        "seals it": lambda: fcntl.fcntl(memory, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE),
        "copies into it": lambda: os.copy_file_range(os.open(__file__, os.O_RDONLY), memory, 1),
        "sends into it": lambda: os.sendfile(memory, os.open(__file__, os.O_RDONLY), 0, 1),
    }


class Model:
    def __init__(self, submission_dir, device):
        self.found = None
        self.receive = socket.recv_fds
        socket.recv_fds = self.keep

    def keep(self, control, size, count):
        """In place of the function with which the runner receives a request."""
        message, descriptors, flags, address = self.receive(control, size, count)
        self.found = [os.dup(descriptor) for descriptor in descriptors]
        return message, descriptors, flags, address

    def predict(self, batch):
        for memory in self.found or []:
            before = os.pread(memory, 64, 0)
            for what, way in ways(memory).items():
                try:
                    way()
                except OSError:
                    continue
                raise RuntimeError(f"CHEATED: {what}")
            if os.pread(memory, 64, 0) != before:
                raise RuntimeError("CHEATED: the request has changed")
            os.close(memory)
        print(f"tried on {len(self.found or [])} descriptors of {sys.argv[0]}")
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
