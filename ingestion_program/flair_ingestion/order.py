"""The order in which a run serves its patches, and which series are to be read ahead of it.

Neighbours share three quarters of their Sentinel-2 window. In the order of the files, a submission could use
the gaps between requests to prepare for the patch that follows. In an order without any rule, the disk would
have to find small pieces of 193 areas. So a sliding set of areas is open at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from flair_ingestion.dataset import Patch, SuperArea

OPEN_AREAS = 32  # their series, about 1.5 GB in FLAIR #2, fit into the page cache
_TRIES = 32  # one is enough for FLAIR #2


def draw_order(patches: Iterable[Patch], seed: int, open_areas: int = OPEN_AREAS) -> list[Patch]:
    """The patches in an order that only their ids and the seed (0 or more) decide.

    Areas are opened in random order, `open_areas` at a time; another one follows when one is used up. Every
    patch left in the open areas is equally likely to be next, except those of the area that the last one came
    from: two patches of an area follow each other only where one area outnumbers all others.
    """
    if open_areas < 1:
        raise ValueError(f"{open_areas} open areas; expected 1 or more")
    generator = np.random.default_rng(seed)
    areas = _shuffle_areas(patches, generator)
    count = sum(map(len, areas))
    for _ in range(_TRIES):
        order = _interleave(areas, open_areas, generator.random(count))
        late = _opened_too_late(order, areas[open_areas:])
        if late is None:
            break
        areas.remove(late)  # and open it first: then its patches can be spread among the others
        areas.insert(0, late)
    return order


def areas_to_open(order: Sequence[Patch], open_areas: int = OPEN_AREAS) -> list[list[SuperArea]]:
    """For each place of an order, the areas that come into the set there, before its patch is read.

    The first place opens `open_areas` of them. Each area comes once, and not after its first patch, whatever
    the order. Also for a part of an order, as every second request.
    """
    areas = [patch.super_area for patch in order]
    left = Counter(areas)
    waiting, opened = iter(left), set[SuperArea]()  # a Counter keeps the order of first appearance
    free = open_areas
    openings: list[list[SuperArea]] = []
    for area in areas:
        openings.append(list(islice(waiting, max(free, int(area not in opened)))))
        opened.update(openings[-1])
        left[area] -= 1
        free += (left[area] == 0) - len(openings[-1])
    return openings


def _shuffle_areas(patches: Iterable[Patch], generator: np.random.Generator) -> list[list[Patch]]:
    """The patches of each area in random order, the areas too."""
    by_area: dict[SuperArea, list[Patch]] = {}
    for patch in sorted(patches, key=lambda patch: patch.id):
        by_area.setdefault(patch.super_area, []).append(patch)
    areas = [[area[place] for place in generator.permutation(len(area))] for area in by_area.values()]
    return [areas[place] for place in generator.permutation(len(areas))]


def _interleave(areas: Sequence[list[Patch]], open_areas: int, draws: np.ndarray) -> list[Patch]:
    """One patch per draw, a number from 0 to 1, from areas that are opened in their order."""
    waiting = deque(areas)
    opened: list[list[Patch]] = []
    order: list[Patch] = []
    last: list[Patch] = []
    for draw in draws.tolist():
        while waiting and len(opened) < open_areas:
            opened.append(waiting.popleft().copy())
        last = _choose(opened, last, len(draws) - len(order), draw)
        order.append(last.pop())
        if not last:
            opened = [area for area in opened if area]
    return order


def _choose(opened: Sequence[list[Patch]], last: list[Patch], left: int, draw: float) -> list[Patch]:
    """The open area of the next patch; `left` patches are left in all, those of closed areas included."""
    others = [area for area in opened if area is not last]
    if not others:
        return last
    largest = max(others, key=len)
    if 2 * len(largest) > left:  # it needs every second place from here on
        return largest
    target = int(draw * sum(map(len, others)))
    for area in others:
        target -= len(area)
        if target < 0:
            return area
    return others[-1]


def _opened_too_late(order: Sequence[Patch], later: Sequence[list[Patch]]) -> list[Patch] | None:
    """The area whose patches are left over at the end, if it is one of those that were opened later."""
    if len(order) < 2 or order[-2].super_area != order[-1].super_area:
        return None
    return next((area for area in later if area[0].super_area == order[-1].super_area), None)
