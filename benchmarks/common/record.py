"""RECORD.md: a line for each measurement, with the commit, the machine and the versions of packages."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

KIT = Path(__file__).resolve().parents[2]
RECORD = Path(os.environ.get("FLAIR_RECORD") or KIT / "benchmarks" / "RECORD.md")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def append_record(command: str, figures: Sequence[str], packages: Sequence[str] = ()) -> None:
    """Print the figures, and append them to the record as one line with the versions of `packages`."""
    print(*figures, sep="\n", end="\n\n")
    machine = [_processor(), f"{cores()} cores", f"Python {platform.python_version()}"]
    machine += [f"{package} {version(package)}" for package in packages]
    cells = [str(datetime.date.today()), f"`{command}`", _commit(), ", ".join(machine), "; ".join(figures)]
    with RECORD.open("a") as record:
        record.write(f"| {' | '.join(cells)} |\n")


def _commit() -> str:
    """The short hash; -dirty if tracked files other than the record have changed; unknown without git."""
    git = ["git", "-C", str(KIT)]
    changes = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/RECORD.md"]
    try:
        dirty = "-dirty" if subprocess.check_output(changes, text=True).strip() else ""
        return subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip() + dirty
    except (OSError, subprocess.CalledProcessError):  # a copy of the files without git
        return "unknown commit"


def _processor() -> str:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in facts if line.startswith("model name")]
    return names[0] if names else platform.machine()
