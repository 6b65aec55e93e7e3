"""Cheating: timers send SIGCONT, which continues a stopped process, and a thread goes on computing.

test_session.py makes the gaps long enough.
"""

import ctypes
import hashlib
import math
import signal
import threading
import time

import torch

BEGIN, END, GAP = 0.15, 0.45, 0.5  # seconds after an answer: a gap of GAP has these off the clock
MUCH = 0.02  # seconds of work
FIRST, EVERY = 100_000_000, 500_000  # nanoseconds after an answer, and from then on
libc = ctypes.CDLL(None)


class Event(ctypes.Structure):  # struct sigevent; to notify by a signal is 0
    _fields_ = (("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("rest", ctypes.c_int * 13))


def create_timer(clock):
    event, handle = Event(None, signal.SIGCONT), ctypes.c_void_p()
    return [handle] if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(handle)) == 0 else []


def arm(timer):
    """Arm the timer to fire only after the stop: a stop deletes a waiting signal, and its timer with it."""
    libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, EVERY, 0, FIRST), None)


class Model:
    def __init__(self, submission_dir, device):
        self.left, self.worked = math.inf, 0.0
        signal.signal(signal.SIGCONT, lambda *_: None)  # a timer whose signal is ignored goes to sleep
        clocks = (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME)
        self.timers = [timer for clock in clocks for timer in create_timer(clock)]
        threading.Thread(target=self.compute, daemon=True).start()

    def compute(self):
        while True:
            before = time.thread_time()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2000)  # this releases Python's lock
            if BEGIN < time.monotonic() - self.left < END:
                self.worked += time.thread_time() - before

    def predict(self, batch):
        gap, self.left = time.monotonic() - self.left, math.inf
        if gap > GAP and self.worked > MUCH:
            raise RuntimeError(f"CHEATED: {self.worked:.3f} s of work off the clock")
        self.worked = 0.0
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        for timer in self.timers:
            arm(timer)
        self.left = time.monotonic()
        return labels
