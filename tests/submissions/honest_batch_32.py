"""Honest: the most patches per request, the largest window."""

import torch


class Model:
    batch_size = 32
    superpatch_size = 110

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        assert all(series.shape[1:] == (10, 110, 110) for series in batch["sentinel"])
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.int64)
