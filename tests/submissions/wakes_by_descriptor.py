"""Cheating: descriptors send SIGCONT, which continues a stopped process, when somebody uses them.

Its log is full when it is stopped, so the parent wakes it by reading the log. Another descriptor, of a
folder, tells when the parent looks at its state in /proc. test_session.py makes the gaps long enough.
"""

import fcntl
import hashlib
import math
import os
import signal
import threading
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
O_ASYNC, F_SETSIG, F_NOTIFY, ALWAYS = 0o20000, 10, 1026, 0x3F - (1 << 31)


def call_when_used(descriptor, *command):
    try:
        fcntl.fcntl(descriptor, F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(descriptor, *command)
    except OSError:
        return


class Model:
    def __init__(self, submission_dir, device):
        self.left, self.worked = math.inf, 0.0
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            call_when_used(descriptor, fcntl.F_SETOWN, os.getpid())
            call_when_used(descriptor, fcntl.F_SETFL, O_ASYNC)
        for folder in ("/proc/self", "/proc/self/task", f"/proc/self/task/{os.getpid()}"):
            call_when_used(os.open(folder, os.O_RDONLY), F_NOTIFY, ALWAYS)
        threading.Thread(target=self.compute, daemon=True).start()
        threading.Thread(target=self.talk, daemon=True).start()

    def compute(self):
        while True:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2000)  # this releases Python's lock
            if BEGIN < time.monotonic() - self.left < END:
                self.worked += time.thread_time() - before

    def talk(self):
        while True:
            try:
                os.write(1, b"more and more\n" * 5000)
            except BlockingIOError:
                time.sleep(0.0001)

    def predict(self, batch):
        gap, self.left = time.monotonic() - self.left, math.inf
        if gap > GAP and self.worked > MUCH:
            raise RuntimeError(f"CHEATED: {self.worked:.3f} s of work off the clock")
        self.worked = 0.0
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.left = time.monotonic()
        return labels
