"""Honest: eight workers share the 400 MiB of their parent; together they hold little more than that."""

import os
import signal
import time

import torch


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        self.weights = torch.ones(400 << 20, dtype=torch.uint8)
        for _ in range(8):
            if os.fork() == 0:
                signal.pause()
        time.sleep(2.5)  # until the parent has looked at its memory

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
