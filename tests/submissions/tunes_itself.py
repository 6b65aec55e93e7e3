"""Cheating: changes how the kernel treats it, through its own files in /proc.

It tries to change its share of the processors, whether it is killed first when memory runs out, how late it
is woken, and what it leaves when it dies.
"""

import os

import torch

NAMES = (
    "autogroup",
    "oom_score_adj",
    "oom_adj",
    "timerslack_ns",
    "coredump_filter",
    "clear_refs",
    "attr/current",
)
NAMES += (
    "uid_map",
    "setgroups",
    "loginuid",
    "sched",
    "make-it-fail",
    "comm",
    "mem",
    "projid_map",
    "fail-nth",
)


class Model:
    def __init__(self, submission_dir, device):
        for name in NAMES:
            for folder in ("/proc/self", f"/proc/self/task/{os.getpid()}", "/proc/thread-self"):
                try:
                    os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
                except OSError:
                    continue
                raise RuntimeError(f"CHEATED: may write {folder}/{name}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
