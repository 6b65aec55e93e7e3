"""Cheating, threat 15: a thread goes on computing after the answer, while the organizer reads off the clock.

Not in ENTRIES: the gaps of a run on a few patches are too short; test_session.py makes longer ones.
"""

import threading
import time

import torch

MUCH = 0.3  # of the time between two requests, of which a part is on the clock, before and after predict


class Model:
    def __init__(self, submission_dir, device):
        self.left = None
        self.gaps = self.worked = 0.0
        self.work = 0.0  # seconds of processor time that the thread has had
        threading.Thread(target=self.compute, daemon=True).start()

    def compute(self):
        while True:
            sum(range(1000))
            self.work = time.thread_time()

    def predict(self, batch):
        if self.left:
            then, work = self.left
            self.gaps += time.monotonic() - then
            self.worked += self.work - work
        if self.gaps > 0.2 and self.worked > MUCH * self.gaps:
            raise RuntimeError(f"CHEATED: {self.worked:.3f} s of work in {self.gaps:.3f} s off the clock")
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        self.left = time.monotonic(), self.work
        return labels
