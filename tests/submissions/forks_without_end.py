"""Cheating, threats 16 and 29: starts 300 processes, each of which tries to leave the group."""

import subprocess
import time


class Model:
    def __init__(self, submission_dir, device):
        for _ in range(300):
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
        time.sleep(3600)
