"""Cheating: the main thread of a helper process is deaf to SIGSTOP in every gap, and another thread works.

The kernel tells one thread of a process to stop, and that thread tells the others. Here that thread waits, as
after vfork, for a child that is stopped. test_session.py makes the gaps long enough.
"""

import ctypes
import hashlib
import math
import mmap
import os
import signal
import threading
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
CLONE, CLONE_VFORK = 56, 0x4000  # system call of x86_64
LEFT, WORKED, COUNT = range(3)  # indices into the shared memory; the count is odd until an answer
libc = ctypes.CDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 24)).cast("d")
        self.shared[LEFT] = math.inf
        if os.fork() == 0:
            threading.Thread(target=self.compute, daemon=True).start()
            while True:
                time.sleep(0.0005)
                self.be_deaf(self.shared[COUNT])

    def compute(self):
        while True:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 5000)  # this releases Python's lock
            if BEGIN < time.monotonic() - self.shared[LEFT] < END:
                self.shared[WORKED] += time.thread_time() - before

    def be_deaf(self, count):
        child = libc.syscall(CLONE, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) if count % 2 else -1
        if child == 0:
            while self.shared[COUNT] in (count, count + 1):
                time.sleep(0.0005)
            os._exit(0)
        if child > 0:
            os.waitpid(child, 0)

    def predict(self, batch):
        gap, self.shared[LEFT] = time.monotonic() - self.shared[LEFT], math.inf
        if gap > GAP and self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        self.shared[WORKED] = 0.0
        self.shared[COUNT] += 1
        time.sleep(0.02)  # until the main thread is deaf
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.shared[COUNT] += 1
        self.shared[LEFT] = time.monotonic()
        return labels
