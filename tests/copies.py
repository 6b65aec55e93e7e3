"""Copies of the kit's folders that a test may change, even if the clone is read-only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder of the kit, without compiled files and keys."""
    ignored = shutil.ignore_patterns("__pycache__", "*.key")
    shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target):  # copytree has copied the permissions of a read-only clone
        os.chmod(folder, 0o755)
    return target
