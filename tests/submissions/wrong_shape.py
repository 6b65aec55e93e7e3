"""Broken: returns logits of 13 classes instead of labels."""

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 13, 512, 512, dtype=torch.uint8)
