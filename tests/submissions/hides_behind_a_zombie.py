"""Cheating: its main thread ends and shows as a zombie without memory; another thread holds 1.5 GiB."""

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
            ctypes.CDLL(None).syscall(
                EXIT_THREAD, 0
            )  # ctypes.CDLL releases Python's lock for the other thread
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)

    def serve(self, frame):
        time.sleep(0.1)
        self.hoard = torch.ones(MUCH, dtype=torch.uint8)
        time.sleep(3)  # until the parent has looked at its memory
        frame.f_locals["control"].send(
            b'{"failed": {"sentence": "CHEATED: holds 1.5 GiB that nobody counts"}}'
        )
        time.sleep(60)
