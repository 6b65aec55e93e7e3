"""Cheating, threat 22: ships modules with the names of those of the harness; each one tells if it runs."""

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
