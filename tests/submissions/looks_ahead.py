"""Cheating, threat 15: a process in a session of its own watches for the next request, off the clock.

In a run on a few patches it would gain too little to show: test_session.py gives it more time.
"""

import mmap
import os
import struct
import time

import torch

AHEAD = 0.25  # seconds before the submission is asked
PATIENCE = 0.2


class Model:
    def __init__(self, submission_dir, device):
        self.seen = mmap.mmap(-1, 8)  # the time at which the watcher last saw a new request; 0 at first
        self.watched = False

    def watch(self, aerial):
        if os.fork():
            return
        os.setsid()
        corner = aerial[0, 0, 0, :64]
        last = corner.clone()
        while True:
            if not torch.equal(corner, last):
                self.seen[:] = struct.pack("d", time.monotonic())
                last = corner.clone()

    def predict(self, batch):
        asked = time.monotonic()
        if self.watched:
            while not any(self.seen[:]) and time.monotonic() < asked + PATIENCE:
                time.sleep(0.001)
            seen = struct.unpack("d", self.seen[:])[0]
            if 0 < seen < asked - AHEAD:
                raise RuntimeError(f"CHEATED: saw the request {asked - seen:.3f} s before it was asked")
        else:
            self.watch(batch["aerial"])
            self.watched = True
        self.seen[:] = bytes(8)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
