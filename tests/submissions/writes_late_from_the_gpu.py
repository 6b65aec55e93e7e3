"""Cheating, threat 36: returns labels in host memory that the GPU has still to write. Needs a GPU."""

import torch

CYCLES = 10**9  # of the GPU: about half a second


class Model:
    def __init__(self, submission_dir, device):
        self.zeros = torch.zeros(1, 512, 512, dtype=torch.uint8, device=device)
        self.stream = torch.cuda.Stream(device)

    def predict(self, batch):
        labels = torch.full((1, 512, 512), 255, dtype=torch.uint8).pin_memory()
        with torch.cuda.stream(self.stream):
            torch.cuda._sleep(CYCLES)
            labels.copy_(self.zeros, non_blocking=True)
        return labels
