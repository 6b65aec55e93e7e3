"""Cheating: punches holes into the memory that it shares with the parent, whose writing waits for each hole.

The seals of that memory forbid only to resize it.
"""

import ctypes
import mmap
import os

import torch

KEEP_SIZE_AND_PUNCH, ZERO_RANGE, PAGE = 3, 0x10, 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long
libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def shared_memory():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                yield int(name)
        except OSError:
            continue


def has_hole(memory):
    """Whether a page that was written is gone."""
    return os.fstat(memory).st_blocks * 512 < os.fstat(memory).st_size


class Model:
    def __init__(self, submission_dir, device): ...

    def predict(self, batch):
        for memory in shared_memory():
            size = os.fstat(memory).st_size
            ways = [lambda m=memory, mode=mode: libc.fallocate(m, mode, 0, PAGE) for mode in (3, ZERO_RANGE)]
            try:
                mapped = mmap.mmap(memory, size)
            except OSError:  # sealed against writing
                mapped = None
            if mapped:
                place = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
                ways.append(lambda place=place: libc.madvise(place, PAGE, mmap.MADV_REMOVE))
            for way in ways:
                os.pread(memory, 1, 0)
                if mapped:
                    mapped[0] = 0
                before = has_hole(memory)
                if way() == 0 and has_hole(memory) and not before:
                    raise RuntimeError("CHEATED: made a hole in the shared memory")
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
