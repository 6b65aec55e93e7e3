"""Broken: holds more memory than allowed."""

import time

import torch


class Model:
    def __init__(self, submission_dir, device):
        self.hoard = torch.ones(1 << 30, dtype=torch.uint8)
        time.sleep(3600)
