"""Cheating: answers each request with its number, and sends the answer again for the requests to come."""

import sys

import torch


class Model:
    def __init__(self, submission_dir, device): ...

    def predict(self, batch):
        frame = sys._getframe(1).f_locals
        frame["target"].zero_()
        answer = b"d" + frame.get("message", b"g")[1:]
        for _ in range(3):
            frame["control"].send(answer)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
