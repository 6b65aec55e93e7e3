"""Every pixel is herbaceous vegetation, the most frequent class of the training labels (datapaper)."""

import numpy as np


class Model:
    """The least that a submission needs."""

    batch_size = 32
    superpatch_size = 10

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        """Class indices, uint8 (B, 512, 512)."""
        return np.full((len(batch["aerial"]), 512, 512), 9, dtype=np.uint8)
