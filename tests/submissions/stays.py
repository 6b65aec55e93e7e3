"""Cheating: detaches a process that outlives it, to change results later."""

import os
import time

import torch


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        os.wait()

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
