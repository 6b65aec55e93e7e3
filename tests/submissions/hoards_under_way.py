"""Cheating: keeps 1 GiB in files in memory whose descriptors are under way in a socket and open nowhere."""

import os
import socket
import time

import torch

PIECE, PIECES = 64 << 20, 16  # bytes, memories


class Model:
    def __init__(self, submission_dir, device):
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for _ in range(PIECES):
            memory = os.memfd_create("piece")
            os.write(memory, bytes([1]) * PIECE)
            socket.send_fds(self.here, [b"x"], [memory])
            os.close(memory)
        time.sleep(2.5)  # until the parent has looked at its memory
        _, (memory,), _, _ = socket.recv_fds(self.there, 1, 1)
        if os.fstat(memory).st_blocks * 512 >= PIECE:
            raise RuntimeError(f"CHEATED: holds {PIECE * PIECES >> 20} MiB that nobody counts")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
