"""Cheating, threat 7: leaves folders that are hard to remove, closed or 1200 deep, for a later run."""

import os

import torch

DEPTH = 1200


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        os.mkdir("closed")
        os.mkdir("closed/inner")
        os.symlink("/", "closed/link")
        os.mkdir("closed/moved-0", 0)
        for _ in range(DEPTH):
            os.mkdir("deep")
            os.chdir("deep")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
