"""Copies of the kit's folders that can be changed, also from a checkout that cannot be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder of the kit, without compiled files and keys."""
    ignored = shutil.ignore_patterns("__pycache__", "*.key")
    shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target):  # copytree gives folders the permissions of those they come from
        os.chmod(folder, 0o755)
    return target
