"""Broken: never finishes loading."""

import time


class Model:
    def __init__(self, submission_dir, device):
        time.sleep(3600)
