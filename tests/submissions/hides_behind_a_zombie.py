"""Cheating: its main thread ends and shows as a zombie without memory; another one holds 1.5 GiB."""

import ctypes
import sys
import threading
import time

import torch

MUCH = 3 << 29  # bytes
EXIT_THREAD = 60  # system call of x86_64
libc = ctypes.PyDLL(None)


class Model:
    def __init__(self, submission_dir, device):
        self.hoard = None

    def predict(self, batch):
        if self.hoard is None:
            self.hoard = torch.empty(0)
            frame = sys._getframe(1)
            serve = threading.Thread(target=self.serve, args=(frame,))
            serve.start()
            ctypes.CDLL(None).syscall(EXIT_THREAD, 0)  # without Python's lock, which the other one needs
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)

    def serve(self, frame):
        time.sleep(0.1)
        self.hoard = torch.ones(MUCH, dtype=torch.uint8)
        time.sleep(3)  # for the parent to look at its memory
        frame.f_locals["control"].send(
            b'{"failed": {"sentence": "CHEATED: holds 1.5 GiB that nobody counts"}}'
        )
        time.sleep(60)
