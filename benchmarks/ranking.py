"""Time and memory of rank.py for 50 submissions with a matrix for each of the 16,050 test patches."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.record import KIT, append_record
from flair_scoring import Evaluation
from flair_scoring.base.provenance import stamp
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.ingestion_output import IngestionOutput
from flair_scoring.writing import write_results

DOMAINS = 10


def write_submissions(folder: Path, submissions: int, patches: int) -> None:
    """Write result folders; a higher number is a worse submission, with noise by domain."""
    rng = np.random.default_rng(2022)
    actual = rng.multinomial(512 * 512, rng.dirichlet(np.full(13, 0.3), patches).mean(axis=0), patches)
    domain_of = np.arange(patches) * DOMAINS // patches
    ids = tuple(f"{77413 + number:06d}" for number in range(patches))
    domains = tuple(f"D{index:03d}_2020" for index in domain_of)
    for number in tqdm(range(submissions), "writing", unit=" submissions", disable=None, leave=False):
        skill = 0.8 - 0.002 * number + rng.normal(0, 0.01, DOMAINS)[domain_of]
        right = (actual * skill[:, None]).astype(np.int64)
        matrices = np.zeros((patches, 13, 13), np.uint32)
        classes = np.arange(13)
        matrices[:, classes, classes] = right
        matrices[:, classes, rng.permutation(classes)] += (actual - right).astype(np.uint32)
        checksums = np.arange(patches, dtype=np.uint32)  # of the same references for all
        evaluation = Evaluation(
            FLAIR_12, ids, domains, ("Z1_UU",) * patches, matrices, reference_checksums=checksums
        )
        ratio = float(rng.uniform(0.1, 2.5))
        timing = stamp() | {"verdict": "within_limit", "reason": None, "ratio": ratio, "limit_ratio": 2.5}
        result = folder / f"submission_{number:02d}"
        result.mkdir(parents=True)
        (result / "timing.json").write_text(json.dumps(timing))
        write_results(result, evaluation, IngestionOutput([], timing, None), per_domain=False)


def main() -> None:
    """Write the results, rank them once, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=50, metavar="N", help="default: %(default)s")
    parser.add_argument("--patches", type=int, default=16_050, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_submissions(folder / "results", args.submissions, args.patches)
        results = sorted((folder / "results").iterdir())
        page = folder / "leaderboard.html"
        command = [sys.executable, KIT / "scoring_program" / "rank.py", *results, "--output", page]
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        assert process.stdout
        table = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"error: rank.py ended with status {status}")
        groups = {line.split()[5] for line in table.splitlines()[1 : args.submissions + 1]}
        figures = [
            f"{args.submissions} submissions of {args.patches} patches in {DOMAINS} domains: {seconds:.1f} s",
            f"peak memory {usage.ru_maxrss / 1000:.0f} MB",
            f"{len(groups)} groups",
            f"page of {page.stat().st_size / 1000:.0f} kB",
        ]
    append_record(
        " ".join(["python benchmarks/ranking.py", *sys.argv[1:]]), figures, ("numpy", "scipy", "pandas")
    )


if __name__ == "__main__":
    main()
