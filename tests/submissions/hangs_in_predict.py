"""Broken: answers the warm-up and hangs on the first real request."""

import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        self.requests = 0

    def predict(self, batch):
        self.requests += 1
        if self.requests > 3:  # a warm-up has fewer requests
            print("about to hang")
            time.sleep(3600)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
