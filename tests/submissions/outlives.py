"""Cheating, threats 5 and 16: a thread and a handler that keep its process alive after the last request."""

import atexit
import threading
import time

import torch


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        threading.Thread(target=time.sleep, args=(3600,)).start()
        atexit.register(time.sleep, 3600)

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
