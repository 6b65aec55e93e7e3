"""From a fresh clone to the leaderboard: wall time of `make demo`, with set-up, and what its model learns."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.record import KIT, append_record


def miou(clone: Path, name: str) -> float:
    """mIoU that the demo's submission `name` got."""
    return json.loads((clone / "runs/demo/results" / name / "scores.json").read_text())["miou"]


def main() -> None:
    """Clone, run, print one line and append it to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2022, help="seed of the toy data (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(KIT), str(clone)], check=True)
        start = time.monotonic()
        subprocess.run(["make", "-C", str(clone), "demo", f"SEED={args.seed}"], check=True, stdout=sys.stderr)
        seconds = time.monotonic() - start
        trained, constant = miou(clone, "submission"), miou(clone, "most_frequent")
    figures = [
        f"{seconds:.0f} s from a fresh clone",
        f"mIoU {trained:.4f} trained, {constant:.4f} most frequent class",
        f"difference {trained - constant:.4f}",
    ]
    append_record(f"make demo SEED={args.seed}", figures)


if __name__ == "__main__":
    main()
