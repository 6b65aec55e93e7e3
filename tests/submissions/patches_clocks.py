"""Cheating, threat 3: is slow, and stops every clock that it can reach; with CUDA also that of events."""

import os
import time

import torch

sleep = time.sleep


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
            setattr(time, name, lambda: 0.0)
            setattr(time, f"{name}_ns", lambda: 0)
        time.clock_gettime = lambda clock: 0.0
        time.sleep = lambda seconds: None
        torch.cuda.Event.elapsed_time = lambda start, end: 0.0
        torch.cuda.synchronize = lambda device=None: None
        os.environ["LD_PRELOAD"] = str(submission_dir / "clock.so")

    def predict(self, batch):
        sleep(2)
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
