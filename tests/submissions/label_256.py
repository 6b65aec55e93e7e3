"""Broken: returns a label that a cast to uint8 would turn into 0."""

import numpy as np


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        labels = np.zeros((len(batch["metadata"]), 512, 512), dtype=np.int64)
        labels[:, 100, 100] = 256
        return labels
