"""Cheating, threat 29: 1 GiB in a file of no disk, which counts for no process that has not mapped it."""

import os
import time


class Model:
    def __init__(self, submission_dir, device):
        hoard = os.memfd_create("hoard")
        for _ in range(64):
            os.write(hoard, bytes(16 << 20))
        time.sleep(3600)
