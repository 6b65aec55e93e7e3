"""Cheating: keeps every request that it gets, and drops it from its page tables, where it would be counted.

Mapped memory stays in use even if no page table shows it. test_session.py sends 140 MiB in each request.
"""

import ctypes
import os
import time

import torch

MUCH = 1 << 30  # bytes
MADV_DONTNEED, PAGE = 4, os.sysconf("SC_PAGE_SIZE")
libc = ctypes.CDLL(None)
libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Model:
    batch_size = 8
    superpatch_size = 110

    def __init__(self, submission_dir, device):
        self.kept, self.bytes = [], 0

    def predict(self, batch):
        for tensor in (batch["aerial"], *batch["sentinel"], *batch["sentinel_masks"]):
            begin, size = -(-tensor.data_ptr() // PAGE) * PAGE, tensor.nbytes
            libc.madvise(begin, max(size // PAGE - 1, 0) * PAGE, MADV_DONTNEED)
            self.bytes += size
        self.kept.append(batch)
        if self.bytes > MUCH:
            time.sleep(2.5)  # until the parent has looked at its memory
            sums = [int(old["aerial"][:, 0].sum()) for old in self.kept]
            if len(set(sums)) == len(sums):  # they do not all lie in the same memory
                raise RuntimeError(f"CHEATED: keeps {len(sums)} requests, {self.bytes >> 20} MiB")
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
