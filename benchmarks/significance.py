"""Error rates of the leaderboard's interval, permutation test and groups, on simulated test sets.

Each simulated test set has new domains with 16 areas each, as FLAIR has. The mixture of classes varies by
domain and by area. So does the share of a class that is recognised, partly for all submissions alike and
partly for each one on its own. The spreads are chosen, not fitted to FLAIR.

A cell of the simulation is a kind of board: a number of submissions, how they are related, and by how much
some are better than others in the population. A false split is a board whose leader's group leaves out one of
the best submissions. If a single submission is the best, the power is the share of boards that find it alone
in its group.

For comparison there are the same shares for the rule of earlier versions. It tested the leader against the
others one by one, corrected for the first five ranks. Two other tests show how much power is possible. The
first knows by how much submissions scatter. The second knows it too, but estimates the difference of the
first two submissions from the domains (Student's t). Neither can be used in practice: how much submissions
scatter is known only if they are assumed to be unrelated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import beta, studentized_range, ttest_1samp
from tqdm import tqdm

from common.record import append_record
from flair_scoring.metrics import jackknife_interval, mean_iou
from flair_scoring.ranking.permutation import (
    ALPHA,
    leader_group_p_values,
    pairwise_differences,
    permutation_test,
    sign_patterns,
)

DOMAINS, AREAS = 10, 16
AREA_PIXELS = 100 * 512 * 512
# Of the 12 classes and other: per cent of the pixels (data paper, Table III), mean recall as log-odds
SHARES = np.array([7.13, 7.33, 12.1, 3.09, 4.52, 4.28, 17.32, 6.3, 3.01, 18.24, 12.47, 3.45, 0.75])
RECALL = np.array([2.2, 0.7, 1.6, 0.2, 2.2, 1.4, 1.6, 0.0, 1.2, 0.8, 1.0, 0.3, -4.0])
SPREAD = {"class": 1.0, "domain": 0.5, "area": 0.4, "own domain": 0.12, "own area": 0.2}
POPULATION = 4000  # domains
CHUNK = 50  # boards that a process simulates at a time
EARLIER_DRAWS, EARLIER_CORRECTED = 4096, 5  # the rule of earlier versions; it drew 65,536


@dataclass(frozen=True)
class Cell:
    """A kind of board.

    The first `families` times `family` submissions form families of related submissions (0: none). A member
    has a share `own` of its deviations for itself. `noise` is the size of each submission's deviations as a
    multiple of the usual size. `ahead` is the lead of each submission over the last one, in mIoU.
    """

    name: str
    submissions: int
    domains: int = DOMAINS
    family: int = 0
    families: int = 1
    own: float = 1.0
    noise: tuple[float, ...] = ()
    ahead: tuple[float, ...] = ()


def lead(count: int, by: float) -> tuple[float, ...]:
    """`ahead` of a cell with `count` submissions, the first of which leads."""
    return (by, *[0.0] * (count - 1))


CELLS = (
    *(Cell(f"{count} equals", count) for count in (2, 3, 5, 8, 10, 30, 100)),
    *(Cell(f"9 copies and one, own part {own}", 10, family=9, own=own) for own in (0.1, 0.3)),
    *(Cell(f"29 copies and one, own part {own}", 30, family=29, own=own) for own in (0.1, 0.3)),
    Cell("3 families of 10, own part 0.3", 30, family=10, families=3, own=0.3),
    Cell("10, one twice as noisy", 10, noise=(*[1.0] * 9, 2.0)),
    Cell("10, five twice as noisy", 10, noise=(*[1.0] * 5, *[2.0] * 5)),
    Cell("2 groups of 5, 0.04 apart", 10, ahead=(*[0.04] * 5, *[0.0] * 5)),
    Cell("3 groups of 10, 0.04 apart", 30, ahead=(*[0.08] * 10, *[0.04] * 10, *[0.0] * 10)),
    Cell("10 equals, 50 domains", 10, domains=50),
    Cell("30 equals, 50 domains", 30, domains=50),
    Cell("leader of 10 ahead by 0.02", 10, ahead=lead(10, 0.02)),
    Cell("leader of 10 ahead by 0.04", 10, ahead=lead(10, 0.04)),
    Cell("leader of 30 ahead by 0.02", 30, ahead=lead(30, 0.02)),
    Cell("leader of 10 ahead by 0.01, 50 domains", 10, domains=50, ahead=lead(10, 0.01)),
)


def simulate(rng: np.random.Generator, cell: Cell, shifts: np.ndarray | float = 0.0) -> np.ndarray:
    """Matrices, float64 (submissions, domains, 13, 13), on one test set; `shifts` are added to log-odds."""
    mixture = np.log(SHARES) + noise(rng, "class", cell.domains, 1) + noise(rng, "class", cell.domains, AREAS)
    actual = np.exp(mixture)
    actual *= AREA_PIXELS / actual.sum(axis=-1, keepdims=True)  # (domains, areas, 13)
    skill = RECALL + noise(rng, "domain", cell.domains, 1) + noise(rng, "area", cell.domains, AREAS)
    own = deviations(rng, cell, "own domain", 1) + deviations(rng, cell, "own area", AREAS)
    own += np.reshape(np.broadcast_to(shifts, cell.submissions), (-1, 1, 1, 1))
    hits = actual / (1 + np.exp(-skill - own))
    right, wrong = hits.sum(axis=-2), (actual - hits).sum(axis=-2)
    attraction = SHARES * (1 - np.eye(13))  # errors go to other classes, frequent ones first
    attraction /= attraction.sum(axis=1, keepdims=True)
    return np.eye(13) * right[..., None, :] + wrong[..., None] * attraction


def noise(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """Normal deviations with the spread of `kind`, of that shape and for 13 classes."""
    return rng.normal(0, SPREAD[kind], (*shape, 13))


def deviations(rng: np.random.Generator, cell: Cell, kind: str, areas: int) -> np.ndarray:
    """Each submission's own deviations, (submissions, domains, areas, 13); a family shares a part."""
    own = noise(rng, kind, cell.submissions, cell.domains, areas)
    for number in range(cell.families if cell.family else 0):
        members = slice(number * cell.family, (number + 1) * cell.family)
        shared = noise(rng, kind, cell.domains, areas)
        own[members] = cell.own * own[members] + np.sqrt(1 - cell.own**2) * shared
    return own * np.reshape(cell.noise or 1.0, (-1, 1, 1, 1))


@cache
def find_shifts(cell: Cell) -> np.ndarray:
    """Log-odds of each submission, (submissions,), so that its mIoU in the population is the cell's."""
    level = population_miou(1.0, 0.0)
    wanted = zip(cell.noise or [1.0] * cell.submissions, cell.ahead or [0.0] * cell.submissions, strict=True)
    return np.array([find_shift(loud, level + by) for loud, by in wanted])


@cache
def find_shift(loud: float, miou: float) -> float:
    """Log-odds with which a submission of this noise has this mIoU in the population; by bisection."""
    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if population_miou(loud, middle) < miou else (low, middle)
    return (low + high) / 2


@cache
def population_miou(loud: float, shift: float) -> float:
    """mIoU over many domains, the same ones each time."""
    cell = Cell("population", 1, domains=POPULATION, noise=(loud,))
    return mean_iou(simulate(np.random.default_rng(2022), cell, shift)[0].sum(axis=0))


@dataclass
class Counts:
    """Numbers of boards, of false splits and of leaders that were found, by each of the rules."""

    boards: int = 0
    splits: int = 0
    earlier_splits: int = 0
    found: int = 0
    earlier_found: int = 0
    knowing_found: int = 0
    estimating_found: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(vars(self)[name] + vars(other)[name] for name in vars(self)))


def simulate_boards(cell: Cell, seed: int, scatter: float) -> Counts:
    """CHUNK boards of the cell; `scatter` is the standard deviation of a submission's own mIoU."""
    rng, shifts = np.random.default_rng((2022, CELLS.index(cell), seed)), find_shifts(cell)
    best = np.isclose(cell.ahead or [0.0] * cell.submissions, max(cell.ahead, default=0.0))
    quantiles = knowing_quantiles(cell.submissions)
    counts = Counts()
    for _ in range(CHUNK):
        matrices = simulate(rng, cell, shifts).astype(np.int64)
        mious = mean_ious(matrices.sum(axis=1))
        order = np.argsort(-mious)
        matrices, mious, truth = matrices[order], mious[order], best[order]
        now = leader_group_p_values(matrices) >= ALPHA
        before = earlier_group(matrices)
        alone = best.sum() == 1 and truth[0]
        ahead = mious[0] - mious[1:] > quantiles * scatter
        counts += Counts(
            boards=1,
            splits=bool((truth & ~now).any()),
            earlier_splits=bool((truth & ~before).any()),
            found=bool(alone and now.sum() == 1),
            earlier_found=bool(alone and before.sum() == 1),
            knowing_found=bool(alone and ahead.all()),
            estimating_found=bool(alone and ahead[1:].all() and differ_by_t(matrices[:2])),
        )
    return counts


def own_scatter(domains: int, boards: int = 400) -> float:
    """Standard deviation of the mIoU between equally good, unrelated submissions of one board."""
    rng, cell = np.random.default_rng(2023), Cell("scatter", 10, domains)
    totals = [simulate(rng, cell).sum(axis=1) for _ in range(boards)]
    return float(np.sqrt(np.mean([np.var(mean_ious(total), ddof=1) for total in totals])))


def mean_ious(totals: np.ndarray) -> np.ndarray:
    """mIoU of each of (submissions, 13, 13)."""
    return np.array([mean_iou(total) for total in totals])


@cache
def knowing_quantiles(submissions: int) -> np.ndarray:
    """By how many deviations the first and the last of 2, 3, ... equally good submissions rarely differ."""
    return studentized_range.ppf(1 - ALPHA, np.arange(2, submissions + 1), np.inf)


def differ_by_t(pair: np.ndarray) -> bool:
    """Whether two submissions, (2, domains, 13, 13), differ by a paired t-test over the domains."""
    (parts,), _ = pairwise_differences(pair)
    return bool(ttest_1samp(parts, 0).pvalue < ALPHA)


def earlier_group(matrices: np.ndarray) -> np.ndarray:
    """Members of the group by the earlier rule: all before the first that differs from the leader."""
    differences, later = pairwise_differences(matrices)
    firsts = np.searchsorted(later, np.arange(1, len(matrices)))  # the pairs with the leader
    sums = np.abs(sign_patterns(matrices.shape[1], 2022, EARLIER_DRAWS) @ differences[firsts].T)
    p_values = (sums >= sums[0] - 1e-12).mean(axis=0)
    corrected = p_values[: EARLIER_CORRECTED - 1]
    order = np.argsort(corrected)
    corrected[order] = np.maximum.accumulate(corrected[order] * np.arange(len(order), 0, -1))
    return np.concatenate([[True], ~np.maximum.accumulate(p_values < ALPHA)])


def describe_cell(cell: Cell, counts: Counts) -> str:
    """One line of the record."""
    said = f"{cell.name}: "
    if sum(cell.ahead) and np.isclose(cell.ahead, max(cell.ahead)).sum() == 1:
        powers = (counts.found, counts.knowing_found, counts.estimating_found, counts.earlier_found)
        found, knowing, estimating, before = (f"{count / counts.boards:.1%}" for count in powers)
        return (
            f"{said}found in {found}; knowing the scatter {knowing}, of all but the first two {estimating}; "
            f"earlier rule {before}"
        )
    upper = beta.ppf(0.95, counts.splits + 1, counts.boards - counts.splits)
    before = f"{counts.earlier_splits / counts.boards:.1%}"
    return f"{said}split in {counts.splits / counts.boards:.1%} (at most {upper:.1%}); earlier rule {before}"


def check_pairs(test_sets: int) -> list[str]:
    """Interval and permutation test on two equally good submissions; the linear test beside the exact one."""
    rng, cell = np.random.default_rng(2022), CELLS[0]
    population = population_miou(1.0, 0.0)
    covered, widths, alarms, scores, apart = 0, [], 0, [], []
    for _ in tqdm(range(test_sets), unit=" test sets", disable=None):
        first, second = matrices = simulate(rng, cell).astype(np.int64)
        interval = jackknife_interval(first)
        assert interval
        covered += interval[0] <= population <= interval[1]
        widths.append(interval[1] - interval[0])
        scores.append(mean_iou(first.sum(axis=0)))
        p_value = permutation_test(first, second)
        alarms += p_value < ALPHA
        order = np.argsort([-mean_iou(one.sum(axis=0)) for one in matrices])
        apart.append(abs(leader_group_p_values(matrices[order])[1] - p_value))
    return [
        f"{test_sets} test sets of {DOMAINS} domains with {AREAS} areas, two equally good submissions",
        f"mIoU: population {population:.4f}, test sets {np.mean(scores):.4f} +- {np.std(scores):.4f}",
        f"95 % interval: holds that of the population in {rate(covered, test_sets)}, "
        f"width {np.mean(widths):.4f}",
        f"permutation test at {ALPHA:.0%}: calls equally good submissions different in "
        f"{rate(alarms, test_sets)}",
        f"p-value of a group of two and of the permutation test: apart by {max(apart):.4f} at most",
    ]


def rate(times: int, count: int) -> str:
    """Per cent, and the half width of its 95 % interval."""
    share = times / count
    return f"{share:.1%} +- {1.96 * np.sqrt(share * (1 - share) / count):.1%}"


def simulate_cells(cells: Sequence[Cell], boards: int) -> Iterator[tuple[Cell, Counts]]:
    """Each cell with the counts of its boards, simulated on all processors."""
    scatters = {domains: own_scatter(domains) for domains in {cell.domains for cell in cells}}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for cell in tqdm(cells, unit=" cells", disable=None):
            chunks = range(-(-boards // CHUNK))
            scatter = scatters[cell.domains]
            done = pool.map(simulate_boards, [cell] * len(chunks), chunks, [scatter] * len(chunks))
            yield cell, sum(done, Counts())


def main() -> None:
    """Simulate, print and record the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--boards", type=int, default=4000, metavar="N", help="of each kind (default: %(default)s)"
    )
    parser.add_argument("--cells", default="", metavar="TEXT", help="only kinds whose name holds this text")
    args = parser.parse_args()
    command = " ".join(["python benchmarks/significance.py", *sys.argv[1:]])
    figures = [] if args.cells else check_pairs(args.boards)
    cells = [cell for cell in CELLS if args.cells in cell.name]
    figures.append(f"{-(-args.boards // CHUNK) * CHUNK} boards of each kind, leader's group at {ALPHA:.0%}")
    figures += [describe_cell(cell, counts) for cell, counts in simulate_cells(cells, args.boards)]
    append_record(command, figures, ("numpy", "scipy"))


if __name__ == "__main__":
    main()
