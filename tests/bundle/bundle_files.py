"""Runs build.py, and takes bundles apart."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

KIT = Path(__file__).resolve().parents[2]


def run_build(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KIT / "bundle/build.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def read_zip(content: bytes) -> dict[str, bytes]:
    """Name -> content of every file of a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(files: dict[str, bytes]) -> bytes:
    """The zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
