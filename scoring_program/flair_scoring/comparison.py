"""Whether one submission is better than another, or only seems so on these domains.

Patches of a domain share the flight, the season and the landscape, so domains are what varies independently.
If two submissions are equally good, each domain might as well have had their matrices exchanged: the swap
test asks how often such exchanges lead to a difference in mIoU as large as the one observed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flair_scoring.metrics import class_counts

ALPHA = 0.05
MIN_DOMAINS = 6  # below, even a submission that wins in every domain has a p-value of 2 / 2^5 > ALPHA
MAX_EXACT = 16  # domains; beyond, exchanges are drawn at random
_DRAWN = 1 << 16
_ROUNDING = 1e-12


def swap_test(first: np.ndarray, second: np.ndarray, seed: int = 2022) -> float:
    """Two-sided p-value of the difference in mIoU of two submissions on the same domains.

    Both are matrices (D, K+1, K+1), one per domain in the same order. All 2^D exchanges up to 16 domains, so
    that the p-value is exact and at least 2 / 2^D; 65,536 random ones beyond, the observed one counted in.
    """
    domains = len(first)
    if len(second) != domains:
        raise ValueError(f"{domains} and {len(second)} domains; expected the same ones")
    one, other = (np.stack(class_counts(matrices), axis=1) for matrices in (first, second))  # (D, 3, K)
    middle, half = (one + other).sum(axis=0) / 2, (one - other) / 2
    shift = np.tensordot(_exchanges(domains, seed), half, axes=1)  # (P, 3, K): sums are linear in the counts
    differences = np.abs(_mean_ious(middle + shift) - _mean_ious(middle - shift))
    return float(np.mean(differences >= differences[0] - _ROUNDING))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: below ALPHA, any number of them, with at most that chance of one false alarm."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _exchanges(domains: int, seed: int) -> np.ndarray:
    """Signs +1 and -1, (P, D), the observed ones (all +1) first; of a pattern and its opposite only one."""
    if domains <= MAX_EXACT:
        patterns = np.arange(1 << (domains - 1))
        return 1.0 - 2.0 * (patterns[:, None] >> np.arange(domains) & 1)
    drawn = np.random.default_rng(seed).integers(0, 2, (_DRAWN, domains), np.int8)
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


def _mean_ious(counts: np.ndarray) -> np.ndarray:
    """mIoU of each (right, predicted, reference pixels) of (P, 3, K); 0 where no scored class occurs."""
    union = counts[:, 1] + counts[:, 2] - counts[:, 0]
    values = np.divide(counts[:, 0], union, out=np.zeros_like(union), where=union > 0)
    return values.sum(axis=1) / np.maximum((union > 0).sum(axis=1), 1)
