"""The swap test against brute force and scipy, Holm's adjustment against a table worked by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from flair_scoring import mean_iou
from flair_scoring.comparison import MAX_EXACT, holm, swap_test


def domains(count: int, seed: int, skill: float = 1.0) -> np.ndarray:
    """Matrices of a submission; the same seed with another skill is a better one on the same ground."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 1000, (count, 13, 13)) + (skill * 2000 * np.eye(13)).astype(int)


def brute_force(first: np.ndarray, second: np.ndarray) -> float:
    """Every exchange of every subset of domains, one after the other."""
    differences = []
    for exchanged in product([False, True], repeat=len(first)):
        pairs = [(b, a) if swap else (a, b) for a, b, swap in zip(first, second, exchanged, strict=True)]
        left, right = (np.sum([pair[side] for pair in pairs], axis=0) for side in (0, 1))
        differences.append(abs(mean_iou(left) - mean_iou(right)))
    return float(np.mean([difference >= differences[0] - 1e-12 for difference in differences]))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 7), seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)))
def test_is_the_share_of_all_exchanges(count: int, seeds: tuple[int, int]) -> None:
    first, second = (domains(count, seed) for seed in seeds)
    assert swap_test(first, second) == pytest.approx(brute_force(first, second), abs=1e-12)
    assert swap_test(first, second) == swap_test(second, first)


def test_is_scipys_paired_permutation_test() -> None:
    first, second = domains(8, 1), domains(8, 2, 1.02)

    matrices = [*first, *second]  # scipy exchanges their numbers

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        left, right = (np.sum([matrices[int(number)] for number in side], axis=0) for side in (one, other))
        return mean_iou(left) - mean_iou(right)

    numbers = (np.arange(8), np.arange(8, 16))
    found = permutation_test(
        numbers, difference, permutation_type="samples", vectorized=False, n_resamples=np.inf
    )
    assert swap_test(first, second) == pytest.approx(found.pvalue, abs=1e-12)


def test_a_submission_that_wins_everywhere_has_the_smallest_p_value() -> None:
    assert swap_test(domains(10, 1, 2.0), domains(10, 1)) == 2 / 2**10
    assert swap_test(domains(6, 1, 2.0), domains(6, 1)) < 0.05 < swap_test(domains(5, 1, 2.0), domains(5, 1))
    assert swap_test(domains(10, 1), domains(10, 1)) == 1


def test_many_domains_are_sampled_near_the_exact_value() -> None:
    first, second = domains(MAX_EXACT, 3), domains(MAX_EXACT, 4, 1.05)
    exact = swap_test(first, second)
    more = [np.concatenate([matrices, np.zeros((1, 13, 13), int)]) for matrices in (first, second)]
    sampled = swap_test(*more)  # the 17th domain is empty: exchanging it changes nothing
    assert 0.01 < exact < 0.99
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2**16))
    assert sampled == swap_test(*more)


def test_other_domains_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 domains"):
        swap_test(domains(3, 1), domains(4, 1))


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)
