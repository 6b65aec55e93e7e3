"""Cheating: sends itself SIGCONT again and again, which cancels a SIGSTOP that no thread has noticed yet.

Threads and a helper process try every call that sends signals. test_session.py makes the gaps long enough.
"""

import ctypes
import hashlib
import math
import os
import signal
import threading
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
TKILL, TGKILL, QUEUE, QUEUE_THREAD = 200, 234, 129, 297  # system calls of x86_64
libc = ctypes.CDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        self.left, self.worked = math.inf, 0.0
        worker = threading.Thread(target=self.compute, daemon=True)
        worker.start()
        me, queued = os.getpid(), (ctypes.c_int * 32)(signal.SIGCONT, 0, -1)  # siginfo_t, as from sigqueue
        calls = [
            lambda: libc.kill(me, signal.SIGCONT),
            lambda: libc.kill(0, signal.SIGCONT),
            lambda: libc.syscall(TKILL, worker.native_id, signal.SIGCONT),
            lambda: libc.syscall(TGKILL, me, worker.native_id, signal.SIGCONT),
            lambda: libc.syscall(QUEUE, me, signal.SIGCONT, queued),
            lambda: libc.syscall(QUEUE_THREAD, me, worker.native_id, signal.SIGCONT, queued),
        ]
        self.call = next((call for call in calls if call() == 0), None)
        for _ in range(4 if self.call else 0):
            threading.Thread(target=self.go_on, daemon=True).start()
        if self.call and os.fork() == 0:
            self.go_on()

    def compute(self):
        while True:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2000)  # this releases Python's lock
            if BEGIN < time.monotonic() - self.left < END:
                self.worked += time.thread_time() - before

    def go_on(self):
        while True:
            self.call()

    def predict(self, batch):
        gap, self.left = time.monotonic() - self.left, math.inf
        if gap > GAP and self.worked > MUCH:
            raise RuntimeError(f"CHEATED: {self.worked:.3f} s of work off the clock")
        self.worked = 0.0
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.left = time.monotonic()
        return labels
