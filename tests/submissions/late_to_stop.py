"""Cheating: the main thread of a helper is deaf to SIGSTOP for a while, so that its other thread works on.

The kernel tells one thread of a process to stop, and that thread tells the others. Here that thread maps
empty pages, in one call that no stop interrupts. test_session.py makes the gaps long enough.
"""

import ctypes
import hashlib
import math
import mmap
import os
import threading
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
DEAF = 0.4  # seconds
MOST, PAGE = 32 << 30, 4096  # bytes of address space, which hold nothing
MADV_DONTNEED, MADV_POPULATE_READ, MAP_NORESERVE = 4, 22, 0x4000
LEFT, WORKED, DEAF_NOW = range(3)  # indices into the shared memory
libc = ctypes.CDLL(None)
libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def map_nothing(size):
    libc.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, flags, -1, ctypes.c_long(0))


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 24)).cast("d")
        self.shared[LEFT] = math.inf
        if os.fork() == 0:
            threading.Thread(target=self.compute, daemon=True).start()
            self.be_deaf()

    def compute(self):
        while True:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)  # this releases Python's lock
            if BEGIN < time.monotonic() - self.shared[LEFT] < END:
                self.shared[WORKED] += time.thread_time() - before

    def be_deaf(self):
        kept, size = map_nothing(MOST), MOST // 16
        while True:
            time.sleep(0.0005)
            if self.shared[DEAF_NOW]:
                libc.madvise(kept, MOST, MADV_DONTNEED)
                begin = time.thread_time()
                libc.madvise(kept, size, MADV_POPULATE_READ)
                size = min(int(size * DEAF / (time.thread_time() - begin)) // PAGE * PAGE + PAGE, MOST)

    def predict(self, batch):
        self.shared[DEAF_NOW] = 0
        gap, self.shared[LEFT] = time.monotonic() - self.shared[LEFT], math.inf
        if gap > GAP and self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        self.shared[WORKED] = 0.0
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.shared[DEAF_NOW] = 1
        time.sleep(0.005)  # until the main thread is deaf
        self.shared[LEFT] = time.monotonic()
        return labels
