"""Permutation tests: whether one submission is better than others, or only seems so on these domains.

The patches of a domain share the flight, the season and the landscape. So the domains, not the patches, are
what varies independently.

`permutation_test` compares two submissions. If they are equally good, their confusion matrices of a domain
can be swapped. Each choice of the domains in which they are swapped is a permutation. The p-value is the
share of all permutations in which the mIoU differs by at least as much as it was observed to differ.

`leader_group_p_values` compares many submissions. Tests of single pairs are not enough for them: among fifty
equally good submissions, the best one and the worst one always differ by much. So it tests all differences
together.
"""

from __future__ import annotations

import numpy as np

from flair_scoring.metrics import class_counts

ALPHA = 0.05
MIN_DOMAINS = 6  # with 5, a submission that wins in every domain has a p-value of 2 / 2^5, above ALPHA
MAX_EXACT = 17  # domains; with more, the test of one pair draws 65,536 permutations at random
_DRAWN = 1 << (MAX_EXACT - 1)  # random permutations for one pair
_DRAWN_TOGETHER = 1 << 12  # random permutations for all pairs together
_SIGNS_AT_ONCE = 1 << 9
_ROUNDING = 1e-12


def permutation_test(first: np.ndarray, second: np.ndarray, seed: int = 2022) -> float:
    """The p-value of the difference in mIoU between two submissions, two-sided.

    Up to 17 domains it takes all 2^D permutations, so the p-value is exact and at least 2 / 2^D. With more
    domains it draws 65,536 permutations at random, one of which is the observed one.

    Args:
        first: Confusion matrices of one submission, (D, K+1, K+1), one per domain.
        second: Those of the other submission, for the same domains in the same order.
        seed: Seed of the random permutations.

    Returns:
        The share of the permutations with a difference at least as large as the observed one, above 0 and up
        to 1. Both orders of the submissions give the same p-value.

    Raises:
        ValueError: The two numbers of domains differ.

    Example:
        The first submission is the better one in all of six domains.

        >>> import numpy as np
        >>> from flair_scoring.ranking.permutation import permutation_test
        >>> better = np.array([[9, 1, 0], [1, 9, 0], [0, 0, 5]])
        >>> worse = np.array([[7, 3, 0], [3, 7, 0], [0, 0, 5]])
        >>> permutation_test(np.stack([better] * 6), np.stack([worse] * 6))
        0.03125
    """
    domains = len(first)
    if len(second) != domains:
        raise ValueError(f"{domains} and {len(second)} domains; expected the same ones")
    one, other = (np.stack(class_counts(matrices), axis=1) for matrices in (first, second))  # (D, 3, K)
    middle, half = (one + other).sum(axis=0) / 2, (one - other) / 2
    # The counts of a permutation are sums over domains, so one product with the signs gives them all
    shift = np.tensordot(sign_patterns(domains, seed, _DRAWN), half, axes=1)  # (P, 3, K)
    differences = np.abs(_mean_ious(middle + shift) - _mean_ious(middle - shift))
    return float(np.mean(differences >= differences[0] - _ROUNDING))


def leader_group_p_values(matrices: np.ndarray, seed: int = 2022) -> np.ndarray:
    """For each submission, the p-value of the hypothesis that it is as good as the best one.

    The submissions with a p-value of at least ALPHA are the leader's group. Suppose that some submissions are
    equally good and that no other one is better: the chance that the group leaves out one of them is about
    ALPHA. This holds for any number of submissions, also for related ones (benchmarks/significance.py).

    The method is a model confidence set (Hansen, Lunde and Nason, Econometrica 79, 2011). All submissions are
    tested for equality, then all but the last one, and so on, until a test does not reject. The p-value of a
    submission is the largest one of the tests that include it.

    Each of these tests is a permutation test of the largest difference (Westfall and Young, Resampling-Based
    Multiple Testing, 1993). A permutation changes the sign of all differences in some of the domains. It does
    so for all pairs alike, so that related submissions stay related. The test takes all permutations up to
    13 domains, and 4,096 random ones beyond.

    A difference is divided by its spread over the domains. The median spread of all pairs moderates this
    divisor, since otherwise a pair of nearly equal submissions would decide alone.

    Args:
        matrices: Confusion matrices, (N, D, K+1, K+1), one per submission and domain. The submissions are in
            the order of their mIoU, the highest first.
        seed: Seed of the random permutations.

    Returns:
        float64 (N,). The first p-value is 1, and no p-value is above the one before it.

    Example:
        Two equally good submissions, and one that is worse than them in all of six domains.

        >>> import numpy as np
        >>> from flair_scoring.ranking.permutation import leader_group_p_values
        >>> better = np.array([[9, 1, 0], [1, 9, 0], [0, 0, 5]])
        >>> worse = np.array([[7, 3, 0], [3, 7, 0], [0, 0, 5]])
        >>> leader_group_p_values(np.stack([[better] * 6, [better] * 6, [worse] * 6])).tolist()
        [1.0, 1.0, 0.03125]
    """
    count = len(matrices)
    if count < 2:
        return np.ones(count)
    differences, later = pairwise_differences(matrices)
    spread = np.sqrt((differences**2).sum(axis=1))
    scale = np.sqrt(spread**2 + np.median(spread) ** 2)
    differences /= np.where(scale > 0, scale, 1)[:, None]
    signs = sign_patterns(matrices.shape[1], seed, _DRAWN_TOGETHER)
    firsts = np.searchsorted(later, np.arange(1, count))  # the first pair of each submission
    observed = np.maximum.accumulate(np.maximum.reduceat(np.abs(differences.sum(axis=1)), firsts))
    reached = np.zeros(count - 1)
    for start in range(0, len(signs), _SIGNS_AT_ONCE):
        sums = np.abs(signs[start : start + _SIGNS_AT_ONCE] @ differences.T)  # (signs, pairs)
        largest = np.maximum.accumulate(np.maximum.reduceat(sums, firsts, axis=1), axis=1)
        reached += (largest >= observed - _ROUNDING).sum(axis=0)
    tests = reached / len(signs)  # of the first two, three, ... submissions
    return np.concatenate([[1.0], np.maximum.accumulate(tests[::-1])[::-1]])


def pairwise_differences(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each domain adds to the difference in mIoU of each pair, and the index of its later member.

    `matrices` is that of `leader_group_p_values`. Returns float64 (pairs, D) and int (pairs,), pairs in the
    order of their later member.

    The mIoU is not a sum over domains. So the part of a domain is an approximation: the difference of its
    counts, weighted by the mean of the two submissions' gradients of the mIoU. The parts add up to the
    difference in mIoU except for terms of third order.
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
    """The permutations as signs, float64 (P, D): +1 keeps the order of a pair in a domain, -1 swaps it.

    The first pattern is the observed one, all +1. A pattern and its opposite lead to the same difference, so
    only one of the two is there: 2^(D-1) patterns, or `most` random ones if that is fewer.
    """
    if 1 << (domains - 1) <= most:
        patterns = np.arange(1 << (domains - 1))
        return 1.0 - 2.0 * (patterns[:, None] >> np.arange(domains) & 1)
    drawn = np.random.default_rng(seed).integers(0, 2, (most, domains), np.int8)
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


def _mean_ious(counts: np.ndarray) -> np.ndarray:
    """mIoU, (P,), from the pixels (right, predicted, reference), (P, 3, K); 0 if no scored class occurs."""
    union = counts[:, 1] + counts[:, 2] - counts[:, 0]
    values = np.divide(counts[:, 0], union, out=np.zeros_like(union), where=union > 0)
    return values.sum(axis=1) / np.maximum((union > 0).sum(axis=1), 1)
