"""Look for what the clock cannot see: a submission that caches answers or keeps state, and a leaky sandbox.

The submission predicts patches in random order. Then it predicts the same patches in their own order, each
request twice in a row. An honest model takes the same time for a patch that it has seen before, and gives a
patch the same labels at any position. For organizers: it takes a few minutes on the machine that times.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KIT = Path(__file__).resolve().parents[1]
sys.path.append(str(KIT / "scoring_program"))
sys.path.append(str(KIT / "ingestion_program"))

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

require_linux()

from flair_ingestion.clock import clock  # noqa: E402
from flair_ingestion.dataset import SPLITS, Patch, index_patches, sample_patches  # noqa: E402
from flair_ingestion.devices.device import choose_device, exclusive_use, require_idle  # noqa: E402
from flair_ingestion.limits import read_limits  # noqa: E402
from flair_ingestion.measurement import Attempt, Conditions, measure, series_lengths  # noqa: E402
from flair_ingestion.reference import SEED, time_harness  # noqa: E402
from flair_ingestion.sandbox.policy import require_hidden  # noqa: E402
from flair_ingestion.sandbox.probe import Observation, probe  # noqa: E402
from flair_ingestion.submission import Submission, open_submission  # noqa: E402
from flair_scoring.base.errors import SubmissionError, UsageError, run_command  # noqa: E402

MUCH_FASTER = 0.8  # of the first time; changes of a processor's clock do not explain so much
REQUESTS = 16  # at least: with fewer, chance could look like a cache. They may take several fresh processes
BY_CHANCE = 1e-3  # the share of honest submissions that may be suspected of a cache
FEW_PIXELS = 1e-3  # of a patch: rounding may change them if the patch has another position in the batch


@dataclass(frozen=True)
class Run:
    """The answers of a fresh process: labels uint8 (N, 512, 512), seconds (N,), patches per request."""

    labels: np.ndarray
    seconds: np.ndarray
    size: int


@dataclass(frozen=True)
class Finding:
    """One line of the table; `verdict` is fine, SUSPICIOUS (of the submission) or WRONG (of the machine)."""

    check: str
    verdict: str
    sentence: str


def audit(submission: Submission, patches: Sequence[Patch], conditions: Conditions) -> Iterator[Finding]:
    """Yield the findings one by one; raises what `measure` raises if the submission fails."""
    order = np.random.default_rng(SEED).permutation(len(patches))
    shuffled = run(submission, [patches[index] for index in order], conditions)
    # Whole requests, so that the second time they hold the same patches
    count, size = -(-len(patches) // shuffled.size), shuffled.size
    once = list(itertools.islice(itertools.cycle(patches), count * size))
    groups = [once[start : start + size] for start in range(0, len(once), size)]
    again = [patch for group in groups for patch in group + group]
    twice = [run(submission, again, conditions) for _ in range(-(-REQUESTS // count))]
    overhead = time_harness(once, conditions)
    first_seconds, second_seconds = np.concatenate([one.seconds[::size].reshape(count, 2) for one in twice]).T
    yield find_caching(first_seconds, second_seconds, overhead)
    labels = twice[0].labels.reshape(count, 2, size, *shuffled.labels.shape[1:])
    first, second = (labels[:, turn].reshape(len(once), *shuffled.labels.shape[1:]) for turn in (0, 1))
    yield find_change(first, second)
    yield find_order(first[order], shuffled.labels)
    yield describe_overhead(overhead, float(twice[0].seconds.mean()))
    yield describe_probe(*probe())


def run(submission: Submission, patches: Sequence[Patch], conditions: Conditions) -> Run:
    """Let the submission predict the patches in a fresh process."""
    attempt, labels = Attempt(), []
    measure(submission, patches, conditions, attempt, deliver=lambda _, found: labels.append(found.copy()))
    seconds = np.repeat(np.divide(attempt.latencies, attempt.counts), attempt.counts)
    return Run(np.concatenate(labels), seconds, max(attempt.counts))


def find_caching(first: np.ndarray, second: np.ndarray, overhead: float) -> Finding:
    """Tell whether N requests that came twice in a row were much faster the second time.

    `first` and `second` (N,) are their seconds per patch, and so is `overhead`, the time of the harness
    itself. A smaller gain than that is noise. A gain that only some requests show (sign test) is noise as
    well: perhaps another program kept the machine busy for a while.
    """
    ratio, gain = float(np.median(second / first)), float(np.median(first - second))
    faster = int((second < first).sum())
    chance = sum(math.comb(len(first), wins) for wins in range(faster, len(first) + 1)) / 2 ** len(first)
    sentence = f"a request that comes a second time takes {ratio:.2f} of its first time"
    if ratio < MUCH_FASTER and gain > overhead and chance < BY_CHANCE:
        return Finding("caching", "SUSPICIOUS", f"{sentence}: it keeps answers, or what it computed for them")
    return Finding("caching", "fine", f"{sentence} (median of {len(first)})")


def find_change(first: np.ndarray, second: np.ndarray) -> Finding:
    """Compare labels (N, 512, 512) of the same patches in the same requests, first and second time."""
    if not (changes := _describe_changes(first, second)):
        return Finding("repetition", "fine", "a patch that comes a second time gets the same labels")
    return Finding("repetition", "SUSPICIOUS", f"the second time {changes}: it keeps state, or is random")


def find_order(in_order: np.ndarray, shuffled: np.ndarray) -> Finding:
    """Compare labels (N, 512, 512) of the same patches, from a run in order and one in random order."""
    if not (changes := _describe_changes(in_order, shuffled)):
        return Finding("order", "fine", "labels do not depend on the order of the patches")
    sentence = f"in another order {changes}: what came before them matters, or it is random"
    return Finding("order", "SUSPICIOUS", sentence)


def describe_overhead(overhead: float, mean: float) -> Finding:
    """Tell the time of the harness; `overhead` and `mean` are seconds per patch."""
    sentence = f"the harness itself takes {1000 * overhead:.2f} ms of the {1000 * mean:.2f} ms per patch"
    return Finding("overhead", "fine", sentence)


def describe_probe(level: str, rows: Sequence[Observation]) -> Finding:
    """Tell whether the sandbox stops on this machine what its level promises."""
    wrong = [f"{row.what} ({row.observed})" for row in rows if not row.fine]
    if wrong:
        return Finding(
            "sandbox", "WRONG", f"level {level!r} does not hold what it promises: {', '.join(wrong)}"
        )
    left = [row.what for row in rows if row.expected == "open"]
    ends = f"open at this level: {', '.join(left)}" if left else "nothing that the sandbox can close is open"
    return Finding("sandbox", "fine", f"level {level!r} holds, {len(rows)} attempts as promised; {ends}")


def _describe_changes(one: np.ndarray, other: np.ndarray) -> str:
    """How many patches of labels (N, 512, 512) differ in more than FEW_PIXELS; empty for none."""
    changed = (one != other).mean(axis=(1, 2))
    if changed.max() <= FEW_PIXELS:
        return ""
    count = (changed > FEW_PIXELS).sum()
    return f"{count} of {len(changed)} patches get other labels (up to {changed.max():.1%} of their pixels)"


def main() -> None:
    """Run everything, print the table; exit code 3 if the submission is suspicious, 2 if the sandbox is."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python bundle/audit.py submission.zip --data /data/flair2",
    )
    parser.add_argument("submission", type=Path, metavar="SUBMISSION", help="zip or folder with model.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the FLAIR #2 archives, unpacked"
    )
    parser.add_argument("--split", choices=SPLITS, default="val", help="default: %(default)s")
    parser.add_argument(
        "--patches", type=int, default=64, metavar="N", help="drawn evenly from the domains (%(default)s)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    args = parser.parse_args()
    if args.patches < 2:
        parser.error(f"--patches {args.patches}: expected at least 2")
    limits = read_limits().with_options(0, None)
    require_hidden(args.data)
    device = choose_device(args.device)
    patches = sample_patches(index_patches(args.data, args.split), args.patches, SEED)
    submission = open_submission(args.submission, limits.submission_mib)
    findings = []
    with exclusive_use(device):
        require_idle(device)
        conditions = Conditions(
            device, limits, clock() + limits.wall_seconds, "none", series_lengths(patches)
        )
        for finding in audit(submission, patches, conditions):
            print(f"{finding.check:10}  {finding.verdict:10}  {finding.sentence}")
            findings.append(finding)
    suspicious = [finding.check for finding in findings if finding.verdict == "SUSPICIOUS"]
    if suspicious:
        raise SubmissionError(f"{args.submission}: suspicious ({', '.join(suspicious)}); read its code")
    if any(finding.verdict == "WRONG" for finding in findings):
        raise UsageError("the sandbox does not hold on this machine; time no submissions here")


if __name__ == "__main__":
    run_command(main)
