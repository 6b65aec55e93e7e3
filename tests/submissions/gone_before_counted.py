"""Cheating: processes work after the answer, and are gone before the parent has looked at them.

Their main threads are deaf to SIGSTOP, so that the other threads stop only after a look. Hundreds of idle
threads make the look long. Nobody waits for these processes, so that they leave no zombie when they end.
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

IDLE, STACK = 100, 1 << 16  # threads, bytes of each; test_session.py makes the look longer
BEGIN, END = 0.01, 0.06  # seconds after an answer; the clock stops within the first few milliseconds
MUCH = 0.03  # seconds of work, in all gaps together
EMPTY, MADV_POPULATE_READ, MAP_NORESERVE = 16 << 30, 22, 0x4000  # bytes of address space
LEFT, WORKED = range(2)  # indices into the shared memory
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long
libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Model:
    def __init__(self, submission_dir, device):
        self.shared = memoryview(mmap.mmap(-1, 16)).cast("d")
        self.shared[LEFT] = math.inf
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # its children leave no zombies
        threading.stack_size(STACK)
        for _ in range(IDLE):
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()

    def work(self):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        empty = libc.mmap(None, EMPTY, mmap.PROT_READ, flags, -1, 0)
        threading.Thread(target=self.compute).start()
        libc.madvise(empty, EMPTY, MADV_POPULATE_READ)
        time.sleep(1)

    def compute(self):
        worked = 0.0
        while time.monotonic() - self.shared[LEFT] < END:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 200)  # this releases Python's lock
            if time.monotonic() - self.shared[LEFT] > BEGIN:
                worked += time.thread_time() - before
        self.shared[WORKED] += worked
        os._exit(0)

    def predict(self, batch):
        self.shared[LEFT] = math.inf
        if self.shared[WORKED] > MUCH:
            raise RuntimeError(f"CHEATED: {self.shared[WORKED]:.3f} s of work off the clock")
        if os.fork() == 0:
            self.work()
        time.sleep(0.02)  # until the main thread is deaf
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.shared[LEFT] = time.monotonic()
        return labels
