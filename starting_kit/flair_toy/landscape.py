"""Land cover of made-up areas: parcels, roads, a river, buildings, as functions of the position.

`draw_landscape` draws an area once. `survey` then gives the land cover in a window of any position and
resolution: of a patch at 0.4 m, of the whole super-area at 2.5 m. Lengths are metres. Positions are counted
right and down from the top left corner of the super-area.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from flair_toy.classes import (
    AGRICULTURAL,
    BRUSHWOOD,
    BUILDING,
    CLEAR_CUT,
    CONIFEROUS,
    DECIDUOUS,
    GREENHOUSE,
    HERBACEOUS,
    IMPERVIOUS,
    PERVIOUS,
    PLOWED,
    POOL,
    SOIL,
    VINEYARD,
    WATER,
)

EXTENT = 1560.0  # side of a super-area: 156 Sentinel-2 pixels
CELL = 2.5  # resolution of the land cover behind the Sentinel-2 series, and of the noise fields
_PARCEL, _BLOCK, _PLOT = 72.0, 190.0, 15.0  # sides of a parcel, a block between roads, the plot of a building
_NEIGHBOURHOODS, _NEIGHBOURHOOD = 5, 5
_ROAD_WIDTH = np.array([0.0, 0.0, 5.0, 9.0])  # by FLAIR value: none, track, paved road
_RIVER, _BANK = 7.0, 10.0  # from the middle of the river to the edge of the water and to that of the bank

# The parcels of every neighbourhood of 5 x 5: so no area lacks a class
_BUILT = (BUILDING,) * 5
_FIELDS = (HERBACEOUS,) * 3 + (AGRICULTURAL,) * 3 + (PLOWED,) * 2 + (BRUSHWOOD,) * 2 + (VINEYARD,) * 2
_WOODS = (CONIFEROUS,) * 2 + (DECIDUOUS,) * 3
_RARE = (CLEAR_CUT, SOIL, WATER, WATER)


@dataclass(frozen=True)
class Structures:
    """Rectangles on the ground, (n,) each: centre, angle, half sides, height, FLAIR value."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    half_length: np.ndarray
    half_width: np.ndarray
    height: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Landscape:
    """One area: parcels and blocks are Voronoi cells around seeds, roads run between blocks.

    `bends` (2, N, N) and `rough` (2, N, N) displace positions. `yards` (N, N) is positive where the ground
    around a building is paved. All three lie on a grid of CELL. `values` (parcels,) are FLAIR values;
    `roads` (blocks, blocks) is the FLAIR value of the road between two blocks, 0 for none. `river` is
    direction, distance from the centre and phase of the meanders, or None.
    """

    bends: np.ndarray
    rough: np.ndarray
    yards: np.ndarray
    parcels: cKDTree
    values: np.ndarray
    blocks: cKDTree
    roads: np.ndarray
    river: tuple[float, float, float] | None
    structures: Structures

    @property
    def units(self) -> int:
        """Number of units: parcels, structures, and one for the roads and the river."""
        return len(self.values) + len(self.structures.x) + 1


@dataclass(frozen=True)
class Cover:
    """A window of a landscape, all arrays (size, size).

    `values` uint8 are FLAIR values. `unit` int32 numbers the parcels, then the structures; the last number
    stands for roads and river. `height` float32 is that of structures, 0 elsewhere.
    """

    values: np.ndarray
    unit: np.ndarray
    height: np.ndarray


def smooth_noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Periodic Gaussian noise float32 (size, size), mean 0, deviation 1, smooth over `scale` pixels."""
    frequency = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size) ** 2
    damping = np.exp(-2 * (np.pi * scale) ** 2 * frequency).astype(np.float32)
    damping[0, 0] = 0
    noise = fft.irfft2(fft.rfft2(rng.standard_normal((size, size), dtype=np.float32)) * damping, (size, size))
    return noise / noise.std()


def draw_landscape(rng: np.random.Generator) -> Landscape:
    """A new area; the same state of the generator gives the same area."""
    size = round(EXTENT / CELL)
    parcel_seeds = _jittered_grid(rng, _NEIGHBOURHOODS * _NEIGHBOURHOOD, _PARCEL)
    block_seeds = _jittered_grid(rng, round(EXTENT / _BLOCK) + 2, _BLOCK)
    road = rng.random((len(block_seeds),) * 2)
    road = np.minimum(road, road.T)  # one road on both sides of a border; P(road < x) = 1 - (1 - x)²
    bare = Landscape(
        bends=np.stack([15 * smooth_noise(rng, size, 45 / CELL) for _ in range(2)]),
        rough=np.stack([1.6 * smooth_noise(rng, size, 5 / CELL) for _ in range(2)]),
        yards=smooth_noise(rng, size, 9 / CELL),
        parcels=cKDTree(parcel_seeds),
        values=_parcel_values(rng, parcel_seeds),
        blocks=cKDTree(block_seeds),
        roads=np.select([road < 0.3, road < 0.55], [IMPERVIOUS, PERVIOUS], 0),
        river=_draw_river(rng),
        structures=Structures(*(np.empty(0) for _ in range(7))),
    )
    return replace(bare, structures=_build(rng, bare))


def _draw_river(rng: np.random.Generator) -> tuple[float, float, float] | None:
    course = rng.uniform(0, np.pi), rng.uniform(-200, 200), rng.uniform(0, 2 * np.pi)
    return course if rng.random() < 0.6 else None


def _jittered_grid(rng: np.random.Generator, count: int, spacing: float) -> np.ndarray:
    """Seeds (count², 2) around the middle of the area, row by row."""
    nodes = np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij")[::-1], axis=-1)
    nodes = nodes - (count - 1) / 2 + rng.uniform(-0.36, 0.36, nodes.shape)
    return nodes.reshape(-1, 2) * spacing + EXTENT / 2


def _parcel_values(rng: np.random.Generator, seeds: np.ndarray) -> np.ndarray:
    """FLAIR values uint8 (parcels,): every neighbourhood is built up on one side and wooded on the other."""
    wildness = np.sin(seeds @ rng.normal(0, 0.006, (2, 3)) + rng.uniform(0, 7, 3)).sum(axis=1)
    wildness += rng.normal(0, 0.15, len(seeds))
    shape = (_NEIGHBOURHOODS, _NEIGHBOURHOOD, _NEIGHBOURHOODS, _NEIGHBOURHOOD)
    members = np.arange(len(seeds)).reshape(shape).swapaxes(1, 2).reshape(_NEIGHBOURHOODS**2, -1)
    values = np.empty(len(seeds), np.uint8)
    for member in members:
        middle = rng.permutation([*_FIELDS, SOIL, WATER, rng.choice(_RARE)])
        values[member[np.argsort(wildness[member])]] = [*_BUILT, *middle, *rng.permutation(_WOODS)]
    return values


def _build(rng: np.random.Generator, land: Landscape) -> Structures:
    """Buildings, some pools and some greenhouses, on those plots of built-up parcels that have room."""
    home, x, y, angle = _plots(rng, land)
    parcel, border, _, kerb, river = _locate(land, x, y)
    value = rng.choice([BUILDING, POOL, GREENHOUSE, 0], len(x), p=[0.86, 0.03, 0.03, 0.08])
    half = rng.uniform((5, 4), (7.5, 6.5), (len(x), 2)) * np.where(value == POOL, 0.45, 1)[:, None]
    height = np.select([value == BUILDING, value == GREENHOUSE], [rng.uniform(3, 12, len(x)), 2.5], 0.0)
    fields = (x, y, angle, half[:, 0], half[:, 1], height, value)
    room = (parcel == home) & (np.minimum(border, kerb) > 5) & (river > _BANK + 6) & (value > 0)
    return Structures(*(field[room] for field in fields))


def _plots(rng: np.random.Generator, land: Landscape) -> tuple[np.ndarray, ...]:
    """Parcel, x, y and angle of each plot; the plots lie on a grid around the seed of a built-up parcel."""
    grid = np.arange(-3, 4) * _PLOT
    offsets = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    parcels = np.flatnonzero(land.values == BUILDING)
    home, angle = (np.repeat(one, len(offsets)) for one in (parcels, rng.uniform(0, np.pi, len(parcels))))
    u, v = (np.tile(offsets, (len(parcels), 1)) + rng.uniform(-1, 1, (len(home), 2))).T
    x, y = land.parcels.data[home].T
    cos, sin = np.cos(angle), np.sin(angle)
    return home, x + u * cos - v * sin, y + u * sin + v * cos, angle


def survey(land: Landscape, left: float, top: float, size: int, step: float) -> Cover:
    """The land cover of `size` x `size` cells of `step` metres; (left, top) is the window's corner."""
    axis = (np.arange(size) + 0.5) * step
    y, x = (grid.ravel() for grid in np.meshgrid(top + axis, left + axis, indexing="ij"))
    parcel, border, road, kerb, river = _locate(land, x, y)
    values, unit = land.values[parcel], parcel.astype(np.int32)
    built = values == BUILDING
    values[built] = np.where(_sample(land.yards, x, y) > 0, IMPERVIOUS, PERVIOUS)[built]
    values[(values == WATER) & (border < 6)] = SOIL  # the shore of a lake
    for inside, value in ((river < _BANK, PERVIOUS), (river < _RIVER, WATER), (kerb < 0, road)):
        values[inside], unit[inside] = np.broadcast_to(value, values.shape)[inside], land.units - 1
    cover = Cover(*(grid.reshape(size, size) for grid in (values, unit, np.zeros(size * size, np.float32))))
    _draw_structures(land, cover, left, top, step)
    return cover


def _locate(land: Landscape, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """What is at each position (n,).

    Returns the parcel, the distance to its border, the FLAIR value of the nearest road, the distance to the
    kerb (negative on the road) and the distance to the middle of the river.
    """
    x, y = x + _sample(land.bends[0], x, y), y + _sample(land.bends[1], x, y)
    block, border = _nearest(land.blocks, x, y)
    road = land.roads[block[:, 0], block[:, 1]]
    kerb = np.where(road > 0, border - _ROAD_WIDTH[road] / 2, np.inf)
    river = np.full(x.shape, np.inf)
    if land.river is not None:
        direction, position, phase = land.river
        along = np.cos(direction) * (x - EXTENT / 2) + np.sin(direction) * (y - EXTENT / 2)
        across = np.cos(direction) * (y - EXTENT / 2) - np.sin(direction) * (x - EXTENT / 2)
        river = np.abs(across - position - 35 * np.sin(along / 90 + phase))
    x, y = x + _sample(land.rough[0], x, y), y + _sample(land.rough[1], x, y)
    parcel, edge = _nearest(land.parcels, x, y)
    return parcel[:, 0], edge, road, kerb, river


def _sample(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(field, (y / CELL - 0.5, x / CELL - 0.5), order=1, mode="nearest")


def _nearest(seeds: cKDTree, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the two nearest seeds (n, 2), and the distance to the border between their cells (n,)."""
    distance, index = seeds.query(np.stack([x, y], axis=-1), k=2)
    between = np.linalg.norm(seeds.data[index[:, 0]] - seeds.data[index[:, 1]], axis=-1)
    return index, (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * between)


def _draw_structures(land: Landscape, cover: Cover, left: float, top: float, step: float) -> None:
    """Draw the structures that reach into the window; changes `cover`."""
    things, size = land.structures, len(cover.values)
    reach = np.hypot(things.half_length, things.half_width)
    column, row = (things.x - left) / step, (things.y - top) / step
    lower = np.floor(np.stack([row, column]) - reach / step).astype(int).clip(0, size)
    upper = np.ceil(np.stack([row, column]) + reach / step).astype(int).clip(0, size)
    for i in np.flatnonzero((upper > lower).all(axis=0)):
        window = np.s_[lower[0, i] : upper[0, i], lower[1, i] : upper[1, i]]
        y, x = np.ogrid[window]
        x, y = (x + 0.5 - column[i]) * step, (y + 0.5 - row[i]) * step
        cos, sin = np.cos(things.angle[i]), np.sin(things.angle[i])
        u, v = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
        inside = (u < things.half_length[i]) & (v < things.half_width[i])
        cover.values[window][inside] = things.value[i]
        cover.unit[window][inside] = len(land.values) + i
        cover.height[window][inside] = things.height[i]
