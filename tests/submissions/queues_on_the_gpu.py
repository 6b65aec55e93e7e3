"""Cheating, threat 2: returns labels that another stream of the GPU has still to write. Needs a GPU."""

import torch

CYCLES = 10**9  # of the GPU: about half a second


class Model:
    def __init__(self, submission_dir, device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def predict(self, batch):
        labels = torch.full((len(batch["metadata"]), 512, 512), 255, dtype=torch.uint8, device=self.device)
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            torch.cuda._sleep(CYCLES)
            labels.zero_()
        return labels
