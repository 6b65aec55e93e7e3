"""A submission that does nothing. Its time is that of the harness: `overhead_ms` in timing.json."""

import torch


class Model:
    """As many zeros as are asked for, without looking at the patches."""

    batch_size = 10

    def __init__(self, submission_dir, device):
        self.labels = torch.zeros(self.batch_size, 512, 512, dtype=torch.uint8)

    def predict(self, batch):
        """Labels uint8 (B, 512, 512)."""
        return self.labels[: len(batch["metadata"])]
