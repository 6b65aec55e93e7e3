"""The order of the patches, compared with an exhaustive search for the fewest repeats, and with chance."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flair_ingestion.dataset import Patch, SuperArea, superarea
from flair_ingestion.order import OPEN_AREAS, areas_to_open, draw_order

# Areas of a test set like FLAIR #2's: 193 areas of 10 domains, most of 100 patches; 16,050 patches in all
TEST_SET = [25] * 28 + [50] * 42 + [75] * 8 + [100] * 95 + [125] * 4 + [150] * 14 + [225, 325]
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**64)


def make_patches(sizes: Sequence[int]) -> list[Patch]:
    """Areas with so many patches each; ids count on. 20 areas form a domain; domains share their names."""
    patches: list[Patch] = []
    for number, size in enumerate(sizes):
        domain, area = f"D{number // 20:03d}_2020", f"Z{number % 20 + 1}_UF"
        files = (f"{domain}-{area}_{kind}" for kind in ("data", "masks", "products"))
        series = SuperArea(domain, area, *files)
        for _ in range(size):
            patches.append(Patch(f"{len(patches):06d}", domain, area, "", None, series, (60, 60), {}))
    return patches


def count_repeats(order: Sequence[Patch]) -> int:
    return sum(one.super_area == next.super_area for one, next in pairwise(order))


def count_open(order: Sequence[Patch]) -> np.ndarray:
    """For each patch of an order, the number of open areas: those begun by then and not used up before."""
    last = {patch.super_area: index for index, patch in enumerate(order)}
    first = {patch.super_area: len(order) - 1 - index for index, patch in enumerate(reversed(order))}
    changes = np.zeros(len(order) + 1, int)
    np.add.at(changes, list(first.values()), 1)
    np.subtract.at(changes, [index + 1 for index in last.values()], 1)
    return changes.cumsum()[:-1]


def fewest_repeats(sizes: Sequence[int], open_areas: int) -> int:
    """The fewest repeats in any order that has at most `open_areas` areas open at a time."""

    @functools.cache
    def search(left: tuple[int, ...], last: int) -> int:
        begun = sum(0 < count < size for count, size in zip(left, sizes, strict=True))
        found = [
            (index == last) + search((*left[:index], count - 1, *left[index + 1 :]), index)
            for index, count in enumerate(left)
            if count and (count < sizes[index] or begun < open_areas)
        ]
        return min(found, default=0)

    return search(tuple(sizes), -1)


@settings(deadline=None)
@given(SIZES, st.integers(1, 14), SEEDS)
def test_it_is_a_permutation_with_few_areas_open(sizes: list[int], open_areas: int, seed: int) -> None:
    patches = make_patches(sizes)
    order = draw_order(patches, seed, open_areas)
    assert sorted(patch.id for patch in order) == [patch.id for patch in patches]
    assert count_open(order).max() <= open_areas


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(3, 5), SEEDS)
def test_no_order_has_fewer_repeats(sizes: list[int], open_areas: int, seed: int) -> None:
    order = draw_order(make_patches(sizes), seed, open_areas)
    assert count_repeats(order) == fewest_repeats(sizes, open_areas)


@pytest.mark.parametrize(
    ("sizes", "repeats"),
    [
        ([7], 6),
        ([1, 1], 0),
        ([400, *[25] * 40], 0),  # the largest area must not be opened late
        ([400, 390, 200, *[25] * 32], 0),
        ([500, *[1] * 40], 459),
        ([41, *[1] * 40], 0),
        ([42, *[1] * 40], 1),
        ([300, 300], 0),
        (TEST_SET, 0),
    ],
)
def test_repeats_of_uneven_areas(sizes: list[int], repeats: int) -> None:
    for seed in range(5):
        order = draw_order(make_patches(sizes), seed)
        assert count_repeats(order) == repeats
        assert count_open(order).max() <= OPEN_AREAS


@settings(deadline=None)
@given(SIZES, SEEDS)
def test_only_ids_and_seed_decide(sizes: list[int], seed: int) -> None:
    patches = make_patches(sizes)
    shuffled = random.Random(1).sample(patches, len(patches))
    assert draw_order(shuffled, seed) == draw_order(patches, seed)


def test_another_seed_draws_another_order() -> None:
    patches = make_patches([25] * 40)
    orders = {tuple(patch.id for patch in draw_order(patches, seed)) for seed in range(50)}
    assert len(orders) == 50


def test_an_order_without_patches_is_empty() -> None:
    assert draw_order([], 1) == areas_to_open([]) == []


def test_no_areas_open_is_a_bug() -> None:
    with pytest.raises(ValueError, match="0 open areas"):
        draw_order(make_patches([2]), 1, 0)


def test_positions_cannot_be_told_from_ids() -> None:
    """Rank correlation of ids and positions; for 193 areas in random order it scatters by 1 / sqrt(193)."""
    patches = make_patches(TEST_SET)
    found = [
        stats.spearmanr(range(len(patches)), [int(patch.id) for patch in draw_order(patches, seed)]).statistic
        for seed in range(12)
    ]
    assert abs(np.mean(found)) < 4 / np.sqrt(193 * 12)
    assert max(map(abs, found)) < 5 / np.sqrt(193)


def test_every_patch_has_a_fair_chance_of_every_quarter() -> None:
    patches = make_patches([10] * 8)
    counts = np.zeros((len(patches), 4))
    for seed in range(2000):
        for index, patch in enumerate(draw_order(patches, seed, 3)):
            counts[int(patch.id), 4 * index // len(patches)] += 1
    deviations = (counts - 500) / np.sqrt(2000 * 0.25 * 0.75)
    assert np.abs(deviations).max() < 5


def test_the_next_patch_of_an_area_is_rarely_a_neighbour() -> None:
    """Two of n patches in random order differ by (n + 1) / 3 on average."""
    patches = make_patches([99] * 60)
    steps: list[int] = []
    previous: dict[SuperArea, int] = {}
    for patch in draw_order(patches, 3):
        if patch.super_area in previous:
            steps.append(abs(int(patch.id) - previous[patch.super_area]))
        previous[patch.super_area] = int(patch.id)
    assert np.mean(steps) == pytest.approx(100 / 3, abs=1.5)


def test_an_area_comes_in_proportion_to_its_patches() -> None:
    """Looked at is the first patch, over many seeds; all four areas are open from the start."""
    patches = make_patches([2, 4, 6, 8])
    firsts = [draw_order(patches, seed)[0].area for seed in range(2000)]
    counts = [firsts.count(f"Z{number}_UF") for number in (1, 2, 3, 4)]
    assert stats.chisquare(counts, [200, 400, 600, 800]).pvalue > 1e-4


def test_an_area_of_more_than_half_comes_first() -> None:
    patches = make_patches([1, 2, 4])
    assert {draw_order(patches, seed)[0].area for seed in range(50)} == {"Z3_UF"}


@settings(deadline=None)
@given(SIZES, st.integers(1, 14), SEEDS)
def test_areas_are_opened_before_their_first_patch_and_as_soon_as_there_is_room(
    sizes: list[int], open_areas: int, seed: int
) -> None:
    order = draw_order(make_patches(sizes), seed, open_areas)
    opened: set[SuperArea] = set()
    openings = areas_to_open(order, open_areas)
    assert len(openings) == len(order)
    for index, (patch, opening) in enumerate(zip(order, openings, strict=True)):
        assert opened.isdisjoint(opening)
        opened.update(opening)
        assert patch.super_area in opened
        used_up = len(sizes) - len({patch.super_area for patch in order[index:]})
        assert len(opened) - used_up == min(open_areas, len(sizes) - used_up)


@settings(deadline=None)
@given(SIZES, st.integers(1, 14), SEEDS, st.integers(1, 4))
def test_a_part_of_an_order_opens_its_areas_too(
    sizes: list[int], open_areas: int, seed: int, every: int
) -> None:
    part = draw_order(make_patches(sizes), seed, open_areas)[::every]
    opened: set[SuperArea] = set()
    for index, (patch, opening) in enumerate(zip(part, areas_to_open(part, open_areas), strict=True)):
        opened.update(opening)
        assert patch.super_area in opened
        used_up = opened - {patch.super_area for patch in part[index:]}
        assert len(opened - used_up) <= open_areas


def test_any_order_opens_each_area_once_and_in_time() -> None:
    patches = make_patches([3] * 50)
    random.Random(5).shuffle(patches)
    opened: list[SuperArea] = []
    for patch, opening in zip(patches, areas_to_open(patches, 4), strict=True):
        opened += opening
        assert patch.super_area in opened
    assert len(opened) == len(set(opened)) == 50


def test_few_areas_are_all_open_from_the_start() -> None:
    patches = make_patches([4] * 31)
    first, *rest = areas_to_open(draw_order(patches, 8))
    assert set(first) == {patch.super_area for patch in patches}
    assert not any(rest)


def test_the_open_areas_stay_mapped() -> None:
    assert superarea._CACHED_AREAS > OPEN_AREAS
    # An area takes two descriptors; two thirds of the usual 1024 are left for everything else
    assert 2 * superarea._CACHED_AREAS < 1024 / 3
