"""Cheating: wakes by a timer, sees a request arrive, delays its writer with holes, and works meanwhile.

The clock has not started by then, so 1 ms of work on a patch costs nothing.
"""

import ctypes
import hashlib
import mmap
import os
import select
import signal
import sys
import time

import torch

WORK, EVERY = 0.001, 500_000  # seconds of work, nanoseconds of the timer
PUNCH = 3  # the mode of fallocate that makes a hole
AERIAL, PAST_HEADER = 5 * 512 * 512, 1 << 16
libc = ctypes.CDLL(None)
libc.fallocate.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long


def start_timer():
    event, handle = (ctypes.c_int * 16)(0, 0, signal.SIGCONT), ctypes.c_void_p()
    if libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(handle)) == 0:
        libc.timer_settime(handle, 0, (ctypes.c_long * 4)(0, EVERY, 0, EVERY), None)


def holds(descriptor, size):
    try:
        return os.fstat(descriptor).st_size == size
    except OSError:
        return False


class Model:
    superpatch_size = 110  # the more there is to write, the longer it takes

    def __init__(self, submission_dir, device):
        self.requests, self.punching = 0, mmap.mmap(-1, 1)
        start_timer()

    def punch(self, memory, size):
        start_timer()
        places = ((0, PAST_HEADER), (PAST_HEADER + AERIAL, size - PAST_HEADER - AERIAL))
        while True:
            if self.punching[0]:
                for place, length in places:
                    libc.fallocate(memory, PUNCH, place, length)

    def predict(self, batch):
        self.requests += 1
        frame = sys._getframe(1).f_locals
        if self.requests > 3 and "requests" in frame:  # as if requests lay in shared memory
            memory = frame["requests"]
            descriptor = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if holds(fd, len(memory)))
            for _ in range(2):
                if os.fork() == 0:
                    self.punch(descriptor, len(memory))
            self.serve(frame["control"], memory, frame["target"])
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)

    def serve(self, control, memory, labels):
        image = slice(PAST_HEADER + AERIAL - 64, PAST_HEADER + AERIAL)
        labels.zero_()
        while True:
            seen = memory[image]
            self.punching[0] = 1
            control.send(b"d")
            while memory[image] == seen and not select.select([control], [], [], 0)[0]:
                pass
            end = time.thread_time() + WORK
            while time.thread_time() < end:
                hashlib.pbkdf2_hmac("sha256", memory[image], b"", 200)
            labels.zero_()
            asked = bool(select.select([control], [], [], 0)[0])
            self.punching[0] = 0
            if not asked:
                control.send(
                    b'{"failed": {"sentence": "CHEATED: 1 ms of work on a request that was not made"}}'
                )
            if control.recv(1) != b"g":
                control.send(b'{"ended": null}')
                os._exit(0)
