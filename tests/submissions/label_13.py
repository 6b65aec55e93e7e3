"""Broken: returns a label above 12, which the official scorer would drop from the matrix."""

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        labels = torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
        labels[:, 100, 100] = 13
        return labels
