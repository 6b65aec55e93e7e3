"""Cheating, threat 38: looks for GPUs other than the one that it is given. Needs a GPU."""

import os
import subprocess
import sys

import torch

MOST = 16
COUNT = """
import torch
gpus = range(torch.cuda.device_count())
print(sum(torch.ones(8, device=f"cuda:{index}").sum().item() == 8 for index in gpus))
"""


class Model:
    def __init__(self, submission_dir, device):
        opened = []
        for number in range(MOST):
            try:
                os.close(os.open(f"/dev/nvidia{number}", os.O_RDWR))
            except OSError:
                continue
            opened.append(number)
        if len(opened) > 1:
            raise RuntimeError(f"CHEATED: opens the device files of the GPUs {opened}")
        several = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(MOST)))}
        done = subprocess.run([sys.executable, "-c", COUNT], env=several, capture_output=True, text=True)
        if done.returncode == 0 and int(done.stdout) > 1:
            raise RuntimeError(f"CHEATED: computes on {int(done.stdout)} GPUs")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
