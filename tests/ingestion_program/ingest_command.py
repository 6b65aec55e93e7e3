"""Runs ingest.py as a user would, and looks for what it may leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

INGEST = Path(__file__).resolve().parents[2] / "ingestion_program" / "ingest.py"


def ingest_command(*arguments: object, program: Path = INGEST, device: str = "cpu") -> list[str]:
    return [sys.executable, "-B", str(program), *map(str, arguments), "--device", device]


def environment(folder: Path) -> dict[str, str]:
    """Temporary files, and with them the lock, in `folder`."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary)}


def run_ingest(
    folder: Path, *arguments: object, program: Path = INGEST, device: str = "cpu"
) -> subprocess.CompletedProcess[str]:
    """Run it with temporary files in `folder`; asserts that neither they nor processes are left."""
    done = subprocess.run(
        ingest_command(*arguments, program=program, device=device),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(folder),
        cwd=folder,
    )
    assert not leftovers(folder)
    return done


def leftovers(folder: Path) -> list[str]:
    """Temporary files but this user's folder of locks, and processes that live on them."""
    files = [str(path) for path in (folder / "tmp").iterdir() if path.name != f"flair2-{os.geteuid()}"]
    processes = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                if f"{folder}/tmp/flair2-".encode() in (process / "environ").read_bytes():
                    processes.append(process.name)
    return files + processes
