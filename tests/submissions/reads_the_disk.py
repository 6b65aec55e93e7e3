"""Cheating, threats 9 and 10: looks beforehand for the test set and its labels, where they may lie."""

import os
from pathlib import Path

import torch

PLATFORM = ("/app/input_data", "/app/input/ref", "/app/input/res", "/app/program", "/app/output")


class Model:
    def __init__(self, submission_dir, device):
        above = [str(folder) for folder in submission_dir.parents]
        for place in [*above, *PLATFORM, "/home", "/mnt", "/var", "/tmp", "/proc", "/dev"]:
            try:
                names = os.listdir(place)
            except OSError:
                continue
            raise RuntimeError(f"CHEATED: {place} holds {names[:5]}")
        try:
            mounts = Path("/proc/1/mountinfo").read_text()
        except OSError:
            return
        raise RuntimeError(f"CHEATED: read of another process: {mounts[:100]}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
