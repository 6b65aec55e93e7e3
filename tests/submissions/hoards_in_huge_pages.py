"""Cheating: keeps memory in huge pages that this machine has set aside; they are counted for no process."""

import mmap
import time

import torch

MAP_HUGETLB, SIZE = 0x40000, 960 << 20


class Model:
    def __init__(self, submission_dir, device):
        try:
            self.hoard = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
        except OSError:  # there are none
            return
        for place in range(0, SIZE, 2 << 20):
            self.hoard[place] = 1
        time.sleep(2.5)  # until the parent has looked at its memory
        raise RuntimeError("CHEATED: holds 960 MiB that nobody counts")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
