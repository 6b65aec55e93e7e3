"""Cheating: ends the process with exit code 0 in the middle of a request, as if all were done."""

import os


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        os._exit(0)
