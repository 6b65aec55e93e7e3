"""Honest, though wasteful: a thread works all the time, like that of a library that polls."""

import ctypes
import threading

import torch

BLOCK = 1 << 20
libc = ctypes.CDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        self.block = ctypes.create_string_buffer(BLOCK)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            libc.memset(self.block, 0, BLOCK)  # without Python's lock

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
