"""Cheating, threat 5: answers at once; a thread writes into the shared memory after the clock has stopped."""

import sys
import threading
import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        shared = sys._getframe(1).f_locals["target"]
        threading.Thread(target=self.compute, args=(shared,), daemon=True).start()
        return torch.full((len(batch["metadata"]), 512, 512), 255, dtype=torch.uint8)

    def compute(self, shared):
        time.sleep(0.05)
        shared.zero_()
