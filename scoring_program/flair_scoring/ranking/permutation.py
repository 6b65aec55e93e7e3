"""Whether one submission is better than others, or only seems so on these domains.

Patches of a domain share the flight, the season and the landscape, so domains are what varies independently.
If two submissions are equally good, each domain might as well have had their matrices exchanged: the swap
test asks how often such exchanges lead to a difference in mIoU as large as the one observed.

For many submissions that is not enough: among fifty equally good ones, the best and the worst of that day
always differ by much. So the leader's group is found by a test of all differences together.
"""

from __future__ import annotations

import numpy as np

from flair_scoring.metrics import class_counts

ALPHA = 0.05
MIN_DOMAINS = 6  # below, even a submission that wins in every domain has a p-value of 2 / 2^5 > ALPHA
MAX_EXACT = 17  # domains; beyond, exchanges are drawn at random, 65,536 for one pair
_DRAWN, _DRAWN_TOGETHER = 1 << (MAX_EXACT - 1), 1 << 12  # the latter for all pairs together
_SIGNS_AT_ONCE = 1 << 9
_ROUNDING = 1e-12


def permutation_test(first: np.ndarray, second: np.ndarray, seed: int = 2022) -> float:
    """Two-sided p-value of the difference in mIoU of two submissions on the same domains.

    Both are matrices (D, K+1, K+1), one per domain in the same order. All 2^D exchanges up to 17 domains, so
    that the p-value is exact and at least 2 / 2^D; 65,536 random ones beyond, the observed one counted in.
    """
    domains = len(first)
    if len(second) != domains:
        raise ValueError(f"{domains} and {len(second)} domains; expected the same ones")
    one, other = (np.stack(class_counts(matrices), axis=1) for matrices in (first, second))  # (D, 3, K)
    middle, half = (one + other).sum(axis=0) / 2, (one - other) / 2
    shift = np.tensordot(
        sign_patterns(domains, seed, _DRAWN), half, axes=1
    )  # (P, 3, K): sums are linear in the counts
    differences = np.abs(_mean_ious(middle + shift) - _mean_ious(middle - shift))
    return float(np.mean(differences >= differences[0] - _ROUNDING))


def leader_group_p_values(matrices: np.ndarray, seed: int = 2022) -> np.ndarray:
    """For each submission, best first, the p-value of "it is as good as the best"; float64 (N,).

    `matrices` (N, D, K+1, K+1): one per submission and domain, submissions by falling mIoU. Those with
    p >= ALPHA are the leader's group. If some submissions are equally good and no other is better, the chance
    that one of them is left out of the group is about ALPHA, whatever their number and however related they
    are (benchmarks/significance.py). The values never rise with the place, and the first is 1.

    It is a model confidence set (Hansen, Lunde and Nason, Econometrica 79, 2011): all submissions are tested
    for equality, then all but the last, and so on, until a test does not reject; the p-value of a submission
    is the largest of the tests that include it. Each test is a permutation test of the largest difference
    (Westfall and Young, Resampling-Based Multiple Testing, 1993). A permutation changes the sign of all
    differences in some of the domains, for all pairs alike, so that related submissions stay related; there
    are 2^D of them, and beyond 13 domains 4,096 random ones are taken. A difference is divided by its spread
    over the domains, which is moderated by the median spread: else a pair of near-copies would decide alone.
    """
    count = len(matrices)
    if count < 2:
        return np.ones(count)
    differences, later = pairwise_differences(matrices)
    spread = np.sqrt((differences**2).sum(axis=1))
    scale = np.sqrt(spread**2 + np.median(spread) ** 2)
    differences /= np.where(scale > 0, scale, 1)[:, None]
    signs = sign_patterns(matrices.shape[1], seed, _DRAWN_TOGETHER)
    firsts = np.searchsorted(later, np.arange(1, count))  # where the pairs of each submission begin
    observed = np.maximum.accumulate(np.maximum.reduceat(np.abs(differences.sum(axis=1)), firsts))
    reached = np.zeros(count - 1)
    for start in range(0, len(signs), _SIGNS_AT_ONCE):
        sums = np.abs(signs[start : start + _SIGNS_AT_ONCE] @ differences.T)  # (signs, pairs)
        largest = np.maximum.accumulate(np.maximum.reduceat(sums, firsts, axis=1), axis=1)
        reached += (largest >= observed - _ROUNDING).sum(axis=0)
    tests = reached / len(signs)  # of the first two, three, ... submissions
    return np.concatenate([[1.0], np.maximum.accumulate(tests[::-1])[::-1]])


def pairwise_differences(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each domain adds to each pair's difference in mIoU, (pairs, D), and the later one of each pair.

    Pairs are ordered by the later one. The mIoU is not a sum over domains; a domain's part is its difference
    in counts, weighted by the mean of the gradients of both. The parts add up to the difference in mIoU but
    for terms of third order.
    """
    counts = np.stack(class_counts(matrices), axis=2)  # (N, D, 3, K): right, predicted, reference
    right, predicted, actual = np.moveaxis(counts.sum(axis=1), 1, 0)  # (N, K) each
    union = predicted + actual - right
    occurring = (union > 0).sum(axis=1, keepdims=True)
    inverse = np.divide(1, union, out=np.zeros_like(union), where=union > 0) / np.maximum(occurring, 1)
    share = np.divide(right, union, out=np.zeros_like(union), where=union > 0)
    by_right, by_union = inverse * (1 + share), -inverse * share  # derivatives of the mIoU
    gradients = np.stack([by_right, by_union, by_union], axis=1)  # (N, 3, K)
    parts = np.einsum("iak,jdak->ijd", gradients, counts)  # of submission j's domains by i's gradient
    own = np.einsum("iid->id", parts)
    later, earlier = np.tril_indices(len(matrices), -1)
    halves = own[earlier] - parts[earlier, later] + parts[later, earlier] - own[later]
    return halves / 2, later


def sign_patterns(domains: int, seed: int, most: int) -> np.ndarray:
    """Signs +1 and -1, (P, D), the observed ones (all +1) first; of a pattern and its opposite only one.

    All of them, or `most` random ones if that is fewer.
    """
    if 1 << (domains - 1) <= most:
        patterns = np.arange(1 << (domains - 1))
        return 1.0 - 2.0 * (patterns[:, None] >> np.arange(domains) & 1)
    drawn = np.random.default_rng(seed).integers(0, 2, (most, domains), np.int8)
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


def _mean_ious(counts: np.ndarray) -> np.ndarray:
    """mIoU of each (right, predicted, reference pixels) of (P, 3, K); 0 where no scored class occurs."""
    union = counts[:, 1] + counts[:, 2] - counts[:, 0]
    values = np.divide(counts[:, 0], union, out=np.zeros_like(union), where=union > 0)
    return values.sum(axis=1) / np.maximum((union > 0).sum(axis=1), 1)
