"""The order in which a run hands over its patches, and the series that are read ahead for it.

Neighbouring patches share three quarters of their Sentinel-2 window. In the order of the files, a submission
could use the gaps between requests to prepare for the next patch. In a wholly random order, the disk would
have to find small pieces of 193 areas. So only some areas are open at a time; patches are drawn from these.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from flair_ingestion.dataset import Patch, SuperArea

OPEN_AREAS = 32  # their series, about 1.5 GB in FLAIR #2, fit into the page cache
_TRIES = 32  # for FLAIR #2 the first one is enough


def draw_order(patches: Iterable[Patch], seed: int, open_areas: int = OPEN_AREAS) -> list[Patch]:
    """The patches in a random order, which depends only on their ids and on the seed (0 or more).

    Areas are opened in random order, `open_areas` at a time; when an area is used up, another one is opened.
    The next patch is drawn from all patches left in the open areas, except those of the area that the last
    patch came from. Two patches of one area follow each other only where this area outnumbers all others.
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
        areas.remove(late)
        areas.insert(0, late)  # opened first, its patches can be spread among the others
    return order


def areas_to_open(order: Sequence[Patch], open_areas: int = OPEN_AREAS) -> list[list[SuperArea]]:
    """For each patch of an order, the areas that are opened before it is read.

    `open_areas` are opened before the first patch. Each area is opened once, before its first patch at the
    latest, whatever the order is. `order` may also be a part of an order, such as every second request.
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
    """The patches of each area in random order; the areas are in random order too."""
    by_area: dict[SuperArea, list[Patch]] = {}
    for patch in sorted(patches, key=lambda patch: patch.id):
        by_area.setdefault(patch.super_area, []).append(patch)
    areas = [[area[index] for index in generator.permutation(len(area))] for area in by_area.values()]
    return [areas[index] for index in generator.permutation(len(areas))]


def _interleave(areas: Sequence[list[Patch]], open_areas: int, draws: np.ndarray) -> list[Patch]:
    """One patch for each of the `draws`, random numbers from 0 to 1; areas are opened in their order."""
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
    """The open area that the next patch comes from; `left` patches are left, those of all areas together."""
    others = [area for area in opened if area is not last]
    if not others:
        return last
    largest = max(others, key=len)
    if 2 * len(largest) > left:  # every second patch must be of this area from here on
        return largest
    target = int(draw * sum(map(len, others)))
    for area in others:
        target -= len(area)
        if target < 0:
            return area
    return others[-1]


def _opened_too_late(order: Sequence[Patch], later: Sequence[list[Patch]]) -> list[Patch] | None:
    """The area whose patches are left over at the end of the order, if it is one of the `later` areas."""
    if len(order) < 2 or order[-2].super_area != order[-1].super_area:
        return None
    return next((area for area in later if area[0].super_area == order[-1].super_area), None)
