"""Cheating: takes the channel over and says "done" as soon as it may run, before it has been asked.

It repeats its last answer with the same number. If the parent accepted that, a request would take no time.
"""

import os
import select
import sys
import time

import torch

STOPPED = 0.004  # seconds between two turns of a busy loop; more show that it stood still


class Model:
    def __init__(self, submission_dir, device):
        self.requests = 0

    def predict(self, batch):
        self.requests += 1
        if self.requests > 3:  # a warm-up has fewer requests
            frame = sys._getframe(1).f_locals
            self.serve(frame["control"], frame["target"], frame.get("message", b"g"))
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)

    def serve(self, control, labels, message):
        early = 0
        while message.startswith(b"g"):
            answer = b"d" + message[1:]
            labels.zero_()
            control.send(answer)
            before = now = time.monotonic()
            while now - before < STOPPED and not select.select([control], [], [], 0)[0]:
                before, now = now, time.monotonic()
            hasty = not select.select([control], [], [], 0)[0]
            if hasty:
                labels.zero_()
                control.send(answer)
            message = control.recv(17)
            if hasty:
                message = control.recv(17)  # comes only if the early answer was taken
                early += 1
        if early:
            raise RuntimeError(f"CHEATED: {early} requests were answered before they were asked")
        control.send(b'{"ended": null}')
        os._exit(0)
