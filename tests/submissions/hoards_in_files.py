"""Cheating, threat 29: keeps 1 GiB in a file in memory, which counts only for processes that map it."""

import os
import time


class Model:
    def __init__(self, submission_dir, device):
        hoard = os.memfd_create("hoard")
        for _ in range(64):
            os.write(hoard, bytes(16 << 20))
        time.sleep(3600)
