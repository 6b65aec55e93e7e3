"""Cheating: a worker gets SIGCONT when its children end, and they begin to end just before the stop.

A process that has begun to end cannot be stopped, and it takes a while to give much memory back.
test_session.py makes the gaps long enough.
"""

import ctypes
import hashlib
import math
import mmap
import os
import signal
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
MEMORY = 256 << 20  # bytes
CLONE = 56  # system call of x86_64
LEFT, WORKED, COUNT, READY = range(4)  # indices into the shared memory; the count is odd until an answer
libc = ctypes.PyDLL(None)  # which keeps Python's lock, so that a child has it, too


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 32)).cast("d")
        self.shared[LEFT] = math.inf
        if os.fork() == 0:
            while True:
                self.compute(self.shared[COUNT])

    def compute(self, count):
        asked = count % 2
        child = libc.syscall(CLONE, signal.SIGCONT, 0, 0, 0, 0) if asked else -1
        if child == 0:
            self.end_late(count)
        if child < 0:
            self.shared[READY] = count
        while self.shared[COUNT] in (count, count + asked):
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)
            if BEGIN < time.monotonic() - self.shared[LEFT] < END:
                self.shared[WORKED] += time.thread_time() - before

    def end_late(self, count):
        hoard = bytes([1]) * MEMORY
        self.shared[READY] = count
        while self.shared[COUNT] == count:
            time.sleep(0.0002)
        os._exit(len(hoard) & 0)

    def predict(self, batch):
        gap, self.shared[LEFT] = time.monotonic() - self.shared[LEFT], math.inf
        if gap > GAP and self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        self.shared[WORKED] = 0.0
        self.shared[COUNT] += 1
        while self.shared[READY] != self.shared[COUNT]:
            time.sleep(0.001)
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.shared[COUNT] += 1
        time.sleep(0.002)  # until it has begun to end
        self.shared[LEFT] = time.monotonic()
        return labels
