"""Cheating, threat 7: keeps the labels of patches by their content; only an audit shows that."""

import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        self.answers = {}

    def predict(self, batch):
        key = bytes(batch["aerial"].numpy())
        if key not in self.answers:
            time.sleep(0.1)
            self.answers[key] = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        return self.answers[key]
