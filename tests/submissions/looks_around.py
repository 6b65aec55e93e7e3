"""Cheating: looks for ids, paths and keys in everything that it is given, and tells what it found."""

import json
import os
import sys
from pathlib import Path


class Model:
    batch_size = 6

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        descriptors = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        seen = {
            "argv": [*sys.argv, Path("/proc/self/cmdline").read_text()],
            "environ": dict(os.environ),
            "folder": os.getcwd(),
            "path": sys.path,
            "modules": sorted(name for name in sys.modules if name.startswith("flair")),
            "descriptors": descriptors,
            "batch": sorted(batch),
            "metadata": batch["metadata"],
        }
        print(json.dumps(seen))
        raise RuntimeError("seen enough")
