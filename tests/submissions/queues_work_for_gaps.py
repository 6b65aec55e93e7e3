"""Cheating, threat 37: queues work on the GPU before the answer, and the GPU does it in the gap. Needs a GPU.

The runner waits for the GPU before it answers, but it runs in the submission's process, where the submission
replaces that wait. A stop reaches processes and not the GPU, so the work goes on as long as the gap lasts.
"""

import time

import torch

CYCLES = 2 * 10**7  # of the GPU: about 10 ms of work
MILLISECONDS = 5.0


class Model:
    def __init__(self, submission_dir, device):
        torch.cuda.synchronize = lambda device=None: None
        self.queued = None

    def predict(self, batch):
        if self.queued:
            begin, end = self.queued
            done = end.query()  # before anything waits for it
            if done and begin.elapsed_time(end) > MILLISECONDS > 1000 * (self.answered - self.asked):
                raise RuntimeError(f"CHEATED: {begin.elapsed_time(end):.1f} ms of work were done in a gap")
        self.asked = time.monotonic()
        self.queued = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.queued[0].record()
        torch.cuda._sleep(CYCLES)
        self.queued[1].record()
        self.answered = time.monotonic()
        return torch.zeros(1, 512, 512, dtype=torch.uint8)
