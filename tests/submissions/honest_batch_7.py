"""Honest: more patches per request than the test tree has, the smallest window, sizes set by the instance."""

import torch


class Model:
    def __init__(self, submission_dir, device):
        self.batch_size = 7
        self.superpatch_size = 10

    def predict(self, batch):
        assert all(series.shape[1:] == (10, 10, 10) for series in batch["sentinel"])
        return torch.zeros(batch["aerial"].shape[0], 512, 512, dtype=torch.int32)
