"""Cheating, threat 1: says "done" before it has done the work, so that a request seems to take no time."""

import os
import socket
import stat
import sys
import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        number = sys._getframe(1).f_locals["message"][1:]
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    socket.socket(fileno=os.dup(descriptor)).send(b"d" + number)
            except OSError:
                pass
        time.sleep(0.2)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
