"""Permutation test and leader's group against brute force and scipy; the examples in the docstrings."""

from __future__ import annotations

import doctest
from itertools import product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flair_scoring import mean_iou
from flair_scoring.ranking import permutation, results, standings, table
from flair_scoring.ranking.permutation import ALPHA, MAX_EXACT, leader_group_p_values, permutation_test


def domains(count: int, seed: int, skill: float = 1.0) -> np.ndarray:
    """Matrices of a submission; the same seed with a higher skill is a better one on the same references."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 1000, (count, 13, 13)) + (skill * 2000 * np.eye(13)).astype(int)


def brute_force(first: np.ndarray, second: np.ndarray) -> float:
    """Swap the matrices in every set of domains, one set after the other."""
    differences = []
    for swapped in product([False, True], repeat=len(first)):
        pairs = [(b, a) if swap else (a, b) for a, b, swap in zip(first, second, swapped, strict=True)]
        left, right = (np.sum([pair[side] for pair in pairs], axis=0) for side in (0, 1))
        differences.append(abs(mean_iou(left) - mean_iou(right)))
    return float(np.mean([difference >= differences[0] - 1e-12 for difference in differences]))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 7), seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)))
def test_is_the_share_of_all_permutations(count: int, seeds: tuple[int, int]) -> None:
    first, second = (domains(count, seed) for seed in seeds)
    assert permutation_test(first, second) == pytest.approx(brute_force(first, second), abs=1e-12)
    assert permutation_test(first, second) == permutation_test(second, first)


def test_is_scipys_paired_permutation_test() -> None:
    first, second = domains(8, 1), domains(8, 2, 1.02)

    matrices = [*first, *second]  # scipy permutes their numbers

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        left, right = (np.sum([matrices[int(number)] for number in side], axis=0) for side in (one, other))
        return mean_iou(left) - mean_iou(right)

    numbers = (np.arange(8), np.arange(8, 16))
    found = stats.permutation_test(
        numbers, difference, permutation_type="samples", vectorized=False, n_resamples=np.inf
    )
    assert permutation_test(first, second) == pytest.approx(found.pvalue, abs=1e-12)


def test_a_submission_that_wins_everywhere_has_the_smallest_p_value() -> None:
    assert permutation_test(domains(10, 1, 2.0), domains(10, 1)) == 2 / 2**10
    assert (
        permutation_test(domains(6, 1, 2.0), domains(6, 1))
        < 0.05
        < permutation_test(domains(5, 1, 2.0), domains(5, 1))
    )
    assert permutation_test(domains(10, 1), domains(10, 1)) == 1


def test_many_domains_are_sampled_near_the_exact_value() -> None:
    first, second = domains(MAX_EXACT, 3), domains(MAX_EXACT, 4, 1.05)
    exact = permutation_test(first, second)
    more = [np.concatenate([matrices, np.zeros((1, 13, 13), int)]) for matrices in (first, second)]
    sampled = permutation_test(*more)  # the last domain is empty, so swapping it changes nothing
    assert 0.01 < exact < 0.99
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2**16))
    assert sampled == permutation_test(*more)


def test_other_domains_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 domains"):
        permutation_test(domains(3, 1), domains(4, 1))


def order(matrices: np.ndarray) -> np.ndarray:
    """The same submissions, (N, D, 13, 13), by falling mIoU."""
    return matrices[np.argsort([-mean_iou(one.sum(axis=0)) for one in matrices])]


def parts_by_integration(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What each domain adds to the difference in mIoU, integrated from the second to the first."""
    path = np.linspace(0, 1, 101)
    parts = []
    for domain in range(len(first)):
        slopes = []
        for share in path:
            here = (second + share * (first - second)).sum(axis=0)
            step = 1e-3 * (first[domain] - second[domain])
            slopes.append((mean_iou(here + step) - mean_iou(here - step)) / 2e-3)
        parts.append(np.trapezoid(slopes, path))
    return np.array(parts)


def brute_force_leader_group(matrices: np.ndarray) -> list[float]:
    """Test the first 2, 3, ... submissions with every pattern of signs and every pair."""
    pairs = {
        (one, other): parts_by_integration(matrices[one], matrices[other])
        for other in range(len(matrices))
        for one in range(other)
    }
    spreads = {pair: float(np.sqrt(np.sum(parts**2))) for pair, parts in pairs.items()}
    middle = float(np.median(list(spreads.values())))
    tests = []
    for count in range(2, len(matrices) + 1):
        largest = [
            max(
                abs(float(np.dot(signs, pairs[pair]))) / np.sqrt(spreads[pair] ** 2 + middle**2)
                for pair in pairs
                if pair[1] < count
            )
            for signs in product([1, -1], repeat=matrices.shape[1])
        ]
        tests.append(float(np.mean([one >= largest[0] - 1e-9 for one in largest])))
    return [1.0, *(max(tests[index:]) for index in range(len(tests)))]


@pytest.mark.parametrize("seed", range(4))
def test_the_leaders_group_is_that_of_brute_force(seed: int) -> None:
    """Brute force integrates numerically where the function uses derivatives."""
    skills = np.random.default_rng(seed).normal(1, 0.03, 5)
    matrices = order(np.stack([domains(6, 10 * seed + n, skill) for n, skill in enumerate(skills)]))
    found = leader_group_p_values(matrices)
    np.testing.assert_allclose(found, brute_force_leader_group(matrices), atol=1 / 2**5)
    assert np.median(np.abs(found - brute_force_leader_group(matrices))) < 1e-12


def test_a_group_of_two_is_that_of_the_permutation_test() -> None:
    for seed in range(20):
        first, second = order(np.stack([domains(8, seed), domains(8, seed + 100, 1.02)]))
        assert leader_group_p_values(np.stack([first, second]))[1] == pytest.approx(
            permutation_test(first, second), abs=2 / 2**7
        )


def test_equal_submissions_stay_together_and_one_is_a_group() -> None:
    assert leader_group_p_values(np.stack([domains(8, 1)] * 3)).tolist() == [1, 1, 1]
    assert leader_group_p_values(domains(8, 1)[None]).tolist() == [1]


def test_who_wins_everywhere_leads_alone() -> None:
    ahead = order(np.stack([domains(10, 1, 2.0), *(domains(10, n) for n in range(2, 30))]))
    p_values = leader_group_p_values(ahead)
    assert (p_values[1:] < ALPHA).all()


def test_many_domains_are_sampled_for_the_group_as_well() -> None:
    skills = np.random.default_rng(3).normal(1, 0.03, 6)
    exact = order(np.stack([domains(13, n, skill) for n, skill in enumerate(skills)]))
    more = np.concatenate([exact, np.zeros((6, 1, 13, 13), int)], axis=1)  # now random ones
    scatter = 4 / np.sqrt(2**12)
    np.testing.assert_allclose(leader_group_p_values(more), leader_group_p_values(exact), atol=scatter)


def test_thirty_equally_good_submissions_are_rarely_split() -> None:
    """Tests of single pairs split nearly all of these boards."""
    rng = np.random.default_rng(1)
    boards, split, split_by_pairs = 200, 0, 0
    for _ in range(boards):
        share = rng.beta(30, 10, (30, 10, 1))
        actual = rng.integers(10_000, 90_000, (10, 13)).astype(float)
        right = actual * np.clip(share + rng.normal(0, 0.02, (30, 10, 13)), 0, 1)
        wrong = np.roll(np.eye(13), 1, axis=1) * (actual - right)[..., None]
        matrices = order(np.eye(13) * right[..., None] + wrong)
        split += bool(leader_group_p_values(matrices)[-1] < ALPHA)
        split_by_pairs += permutation_test(matrices[0], matrices[-1]) < ALPHA
    assert split <= boards * ALPHA + 3 * np.sqrt(boards * ALPHA)
    assert split_by_pairs > 0.8 * boards


@pytest.mark.parametrize("module", [permutation, results, standings, table])
def test_the_examples_of_the_docstrings_are_right(module: ModuleType) -> None:
    found = doctest.testmod(module, globs={})  # an example imports what it needs
    assert found.attempted > 0
    assert found.failed == 0
