"""From a fresh clone to the leaderboard: wall time of `make demo`, with set-up, and what its model learns."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
RECORD = KIT / "benchmarks" / "RECORD.md"


def miou(clone: Path, name: str) -> float:
    """mIoU that the demo's submission `name` got."""
    return json.loads((clone / "runs/demo/results" / name / "scores.json").read_text())["miou"]


def main() -> None:
    """Clone, run, print one line and append it to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2022, help="seed of the toy data (default: %(default)s)")
    args = parser.parse_args()
    commit = subprocess.check_output(
        ["git", "-C", str(KIT), "describe", "--always", "--dirty"], text=True
    ).strip()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(KIT), str(clone)], check=True)
        start = time.monotonic()
        subprocess.run(["make", "-C", str(clone), "demo", f"SEED={args.seed}"], check=True, stdout=sys.stderr)
        seconds = time.monotonic() - start
        trained, constant = miou(clone, "submission"), miou(clone, "most_frequent")
    line = (
        f"| {datetime.date.today()} | `make demo SEED={args.seed}` | {commit} | {os.cpu_count()} cores, "
        f"Python {platform.python_version()} | {seconds:.0f} s from a fresh clone; "
        f"mIoU {trained:.4f} trained, "
        f"{constant:.4f} most frequent class, difference {trained - constant:.4f} |"
    )
    print(line)
    with RECORD.open("a") as record:
        record.write(line + "\n")


if __name__ == "__main__":
    main()
