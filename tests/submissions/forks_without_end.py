"""Cheating, threats 16 and 29: fills the machine with processes, here 300, each of which wants to leave."""

import subprocess
import time


class Model:
    def __init__(self, submission_dir, device):
        for _ in range(300):
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
        time.sleep(3600)
