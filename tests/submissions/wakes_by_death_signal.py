"""Cheating: a worker gets SIGCONT when its parent dies, and the parent begins to die just before the stop.

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
PR_SET_PDEATHSIG = 1
LEFT, WORKED, COUNT, READY = range(4)  # indices into the shared memory; the count is odd until an answer
libc = ctypes.CDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 32)).cast("d")
        self.shared[LEFT] = math.inf

    def prepare(self, count):
        """A process that dies as soon as this request is answered, and a worker below it."""
        if os.fork():
            os.wait()  # for the process in between, so that the next one is an orphan
            return
        if os.fork():
            os._exit(0)
        if os.fork() == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
            self.compute(count)
        hoard = bytes([1]) * MEMORY
        self.shared[READY] = count
        while self.shared[COUNT] == count:
            time.sleep(0.0002)
        os._exit(len(hoard) & 0)

    def compute(self, count):
        while self.shared[COUNT] in (count, count + 1):
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)
            if BEGIN < time.monotonic() - self.shared[LEFT] < END:
                self.shared[WORKED] += time.thread_time() - before
        os._exit(0)

    def predict(self, batch):
        gap, self.shared[LEFT] = time.monotonic() - self.shared[LEFT], math.inf
        if gap > GAP and self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        self.shared[WORKED] = 0.0
        self.shared[COUNT] += 1
        self.prepare(self.shared[COUNT])
        while self.shared[READY] != self.shared[COUNT]:
            time.sleep(0.001)
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.shared[COUNT] += 1
        time.sleep(0.002)  # until it has begun to die
        self.shared[LEFT] = time.monotonic()
        return labels
