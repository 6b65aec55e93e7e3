"""Cheating: leaves a scratch folder that is hard to count and to remove: pipes, sockets, closed folders.

One name is not UTF-8, one contains a line break, and one file is as large as allowed but empty on the disk.
"""

import os
import socket

import torch

LARGE, MANY = 1 << 30, 2000


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        os.mkfifo("cache")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind("socket")
        os.close(os.open(b"not utf-8 \xff\xfe", os.O_CREAT | os.O_RDWR))
        os.mkdir("a line\nand another\x1b[31m")
        os.symlink("loop", "loop")
        os.symlink("/proc/self/fd/0", "link")
        with open("large", "wb") as file:
            file.truncate(LARGE)
        for number in range(MANY):
            os.link("large", f"name-{number}")
        os.mkdir("closed", 0)
        os.close(os.open("secret", os.O_CREAT | os.O_RDWR, 0))
        self.kept = [os.open(".", os.O_TMPFILE | os.O_RDWR) for _ in range(100)]
        self.busy = os.open("large", os.O_RDWR)

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
