"""Cheating, threats 1 and 2: returns at once, and lets a thread compute the labels that it has returned.

On a GPU it returns while kernels still run and copies are still under way.
"""

import threading
import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        labels = torch.full((len(batch["metadata"]), 512, 512), 255, dtype=torch.uint8)
        threading.Thread(target=self.compute, args=(labels,), daemon=True).start()
        return labels

    def compute(self, labels):
        time.sleep(0.05)
        labels.zero_()
