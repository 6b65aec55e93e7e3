"""How much of a patch is right, and which patches are the best, the median and the worst ones."""

from __future__ import annotations

import numpy as np

from flair_scoring.evaluation import Evaluation


def share_right(matrices: np.ndarray) -> np.ndarray:
    """Share of right pixels among those of scored classes, float64 (N,), of confusion matrices (N, K+1, K+1).

    NaN for a matrix without pixels of scored classes.
    """
    scored = matrices[:, :-1].astype(np.int64)
    right = np.diagonal(scored, axis1=1, axis2=2).sum(axis=1)
    ground = scored.sum(axis=(1, 2))
    return np.divide(right, ground, out=np.full(len(ground), np.nan), where=ground > 0)


def choose_patches(evaluation: Evaluation, count: int) -> dict[str, list[tuple[int, float]]]:
    """The `count` best, median and worst patches: for each kind indices and shares of right pixels.

    No patch is chosen twice: of fewer than 3 x `count` patches, each kind has fewer, and a kind without any
    is left out. Patches without pixels of scored classes are never chosen.
    """
    shares = share_right(evaluation.matrices)
    order = [int(index) for index in np.argsort(-shares, kind="stable") if not np.isnan(shares[index])]
    count = min(count, max(len(order) // 3, 1))
    best, rest = order[:count], order[count:]
    worst = rest[-count:]
    rest = rest[: len(rest) - len(worst)]
    start = (len(rest) - count) // 2 if len(rest) > count else 0
    kinds = {"Best": best, "Median": rest[start : start + count], "Worst": worst}
    return {kind: [(index, shares[index]) for index in found] for kind, found in kinds.items() if found}
