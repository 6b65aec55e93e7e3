"""Honest: labels from every value of the image, computed and returned on the device that it is given."""

import torch


class Model:
    batch_size = 3

    def __init__(self, submission_dir, device):
        self.device = device

    def predict(self, batch):
        return batch["aerial"].to(self.device).to(torch.int64).sum(dim=1) % 13
