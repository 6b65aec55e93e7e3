"""Cheating: changes the program that it runs in, so that a label without a class passes the check."""

import sys

import torch


class Model:
    def __init__(self, submission_dir, device):
        runner = sys.modules["__main__"]
        runner.CLASSES = 255
        runner.write_labels = lambda labels, target: target.fill_(77)
        runner.read_settings = lambda model: {"batch_size": 1, "superpatch_size": 40}

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
