"""Cheating: asks the platform to run its own program, without a clock."""

import torch


class Model:
    def __init__(self, submission_dir, device):
        self.device = device

    def predict(self, batch):
        return torch.full((len(batch["metadata"]), 512, 512), 3, dtype=torch.uint8, device=self.device)
