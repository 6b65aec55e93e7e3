"""Cheating: leaves notes for a later attempt or run: it reads files that nobody has read for a day.

Most kernels note the time of reading once a day for each file. The interpreter and the system have tens of
thousands of files, which make a notebook. `stat` alone shows which file was read, and when.
"""

import os
import sys
import time

import torch

DAY = 24 * 3600
ENOUGH = 5  # files


def unread_files():
    """Files that a submission may read, whose time of reading the next reading would change."""
    for place in (os.path.dirname(torch.__file__), sys.base_prefix, "/usr"):
        for folder, _, names in os.walk(place):
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path, follow_symlinks=False)
                except OSError:
                    continue
                written = max(status.st_mtime, status.st_ctime)
                if status.st_size and (status.st_atime <= written or status.st_atime < time.time() - DAY):
                    yield path


class Model:
    def __init__(self, submission_dir, device):
        for path, _ in zip(unread_files(), range(ENOUGH), strict=False):
            before = os.stat(path).st_atime_ns
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError:
                continue
            if os.stat(path).st_atime_ns != before:
                raise RuntimeError(f"CHEATED: a later run sees that this one has read {path}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
