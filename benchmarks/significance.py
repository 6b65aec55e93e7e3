"""Do the leaderboard's interval and test keep what they promise? Simulated test sets, nested as FLAIR's.

Each simulated test set has 10 new domains with 16 areas each. Classes are mixed unevenly, by domain and by
area; how well a class is recognised varies by domain and area, for all submissions alike and for each one
apart. All submissions are equally good in the population, so every "A is better than B" is a false alarm, and
the interval should hold the mIoU of the population. The spreads are chosen, not fitted to FLAIR.
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

from flair_scoring.comparison import ALPHA, swap_test
from flair_scoring.metrics import jackknife_interval, mean_iou
from record import append_record

DOMAINS, AREAS = 10, 16
AREA_PIXELS = 100 * 512 * 512
# per cent of the pixels, the 12 classes and other (datapaper, Table III), and their mean recall as log-odds
SHARES = np.array([7.13, 7.33, 12.1, 3.09, 4.52, 4.28, 17.32, 6.3, 3.01, 18.24, 12.47, 3.45, 0.75])
RECALL = np.array([2.2, 0.7, 1.6, 0.2, 2.2, 1.4, 1.6, 0.0, 1.2, 0.8, 1.0, 0.3, -4.0])
SPREAD = {"class": 1.0, "domain": 0.5, "area": 0.4, "own domain": 0.12, "own area": 0.2}


def simulate(rng: np.random.Generator, submissions: int, domains: int) -> np.ndarray:
    """Confusion matrices float64 (submissions, domains, 13, 13) of equally good ones on one test set."""
    mixture = np.log(SHARES) + noise(rng, "class", domains, 1) + noise(rng, "class", domains, AREAS)
    actual = np.exp(mixture)
    actual *= AREA_PIXELS / actual.sum(axis=-1, keepdims=True)  # (domains, areas, 13)
    skill = RECALL + noise(rng, "domain", domains, 1) + noise(rng, "area", domains, AREAS)
    own = noise(rng, "own domain", submissions, domains, 1) + noise(
        rng, "own area", submissions, domains, AREAS
    )
    hits = actual / (1 + np.exp(-skill - own))
    right, wrong = hits.sum(axis=-2), (actual - hits).sum(axis=-2)
    attraction = SHARES * (1 - np.eye(13))  # errors go to other classes, frequent ones first
    attraction /= attraction.sum(axis=1, keepdims=True)
    return np.eye(13) * right[..., None, :] + wrong[..., None] * attraction


def noise(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """Normal deviations of the spread `kind`, of that shape and 13 classes."""
    return rng.normal(0, SPREAD[kind], (*shape, 13))


def rate(times: int, count: int) -> str:
    """Per cent, and the half width of its 95 % interval."""
    share = times / count
    return f"{share:.1%} +- {1.96 * np.sqrt(share * (1 - share) / count):.1%}"


def main() -> None:
    """Simulate, print and record the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--test-sets", type=int, default=4000, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    rng = np.random.default_rng(2022)
    population = mean_iou(simulate(rng, 1, 20_000)[0].sum(axis=0))
    covered, widths, alarms, scores = 0, [], 0, []
    for _ in tqdm(range(args.test_sets), unit=" test sets", disable=None):
        first, second = simulate(rng, 2, DOMAINS).astype(np.int64)
        interval = jackknife_interval(first)
        assert interval
        covered += interval[0] <= population <= interval[1]
        widths.append(interval[1] - interval[0])
        scores.append(mean_iou(first.sum(axis=0)))
        alarms += swap_test(first, second) < ALPHA
    count = args.test_sets
    figures = [
        f"{count} simulated test sets of {DOMAINS} domains with {AREAS} areas, equally good submissions",
        f"mIoU: population {population:.4f}, test sets {np.mean(scores):.4f} +- {np.std(scores):.4f}",
        f"95 % interval: holds that of the population in {rate(covered, count)}, width {np.mean(widths):.4f}",
        f"swap test at {ALPHA:.0%}: calls equally good submissions different in {rate(alarms, count)}",
    ]
    append_record("python benchmarks/significance.py", figures, ("numpy", "scipy"))


if __name__ == "__main__":
    main()
