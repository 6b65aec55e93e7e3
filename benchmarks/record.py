"""RECORD.md: one line per measurement, with the commit, the machine and the versions behind it."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
RECORD = KIT / "benchmarks" / "RECORD.md"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def append_record(command: str, figures: Sequence[str], packages: Sequence[str] = ()) -> None:
    """Print the figures, and append them to the record as one line with the versions of `packages`."""
    print(*figures, sep="\n", end="\n\n")
    describe = ["git", "-C", str(KIT), "describe", "--always", "--dirty"]
    commit = subprocess.check_output(describe, text=True).strip()
    machine = [_processor(), f"{cores()} cores", f"Python {platform.python_version()}"]
    machine += [f"{package} {version(package)}" for package in packages]
    cells = [str(datetime.date.today()), f"`{command}`", commit, ", ".join(machine), "; ".join(figures)]
    with RECORD.open("a") as record:
        record.write(f"| {' | '.join(cells)} |\n")


def _processor() -> str:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in facts if line.startswith("model name")]
    return names[0] if names else platform.machine()
