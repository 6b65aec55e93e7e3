"""Cheating: a helper becomes another process again and again, so that a stop comes too late for each.

Each process does a little work and then starts the next one. test_session.py makes the gaps long enough.
"""

import hashlib
import math
import mmap
import os
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
LEFT, WORKED = range(2)  # indices into the shared memory


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 16)).cast("d")
        self.shared[LEFT] = math.inf
        for _ in range(3):
            if os.fork() == 0:
                self.hand_on()

    def hand_on(self):
        while True:
            before = time.process_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 200)
            if BEGIN < time.monotonic() - self.shared[LEFT] < END:
                self.shared[WORKED] += time.process_time() - before
            if os.fork():
                os._exit(0)

    def predict(self, batch):
        gap, self.shared[LEFT] = time.monotonic() - self.shared[LEFT], math.inf
        if gap > GAP and self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        self.shared[WORKED] = 0.0
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        time.sleep(0.01)  # with many of them
        self.shared[LEFT] = time.monotonic()
        return labels
