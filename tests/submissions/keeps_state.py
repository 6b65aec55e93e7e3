"""Cheating: its labels depend on how many requests came before; only an audit shows that."""

import torch


class Model:
    batch_size = 4

    def __init__(self, submission_dir, device):
        self.requests = 0

    def predict(self, batch):
        self.requests += 1
        return torch.full((len(batch["metadata"]), 512, 512), self.requests % 13)
