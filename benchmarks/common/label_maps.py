"""Made-up label maps for benchmarks: references are polygons, predictions are ragged as a network's.

The size of a file decides how long decoding takes. With LZW the predictions are about as large as those in
IGN's sample submission for FLAIR #1; the benchmark prints the mean sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from tqdm import tqdm

DOMAINS = ("D015_2020", "D022_2021", "D026_2020", "D036_2020", "D061_2020", "D064_2021", "D068_2021")
FIRST_ID = 77413  # of the test set
_SIDE = 2048  # pixels of the map that patches are cut from
_REGION = 90  # pixels across a polygon
_COMPRESSIONS = {"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "none": None}

Pair = tuple[str, str]


@dataclass(frozen=True)
class _Scene:
    """Where pairs are written, and the two maps that they are cut from."""

    folder: Path
    count: int
    compression: str
    seed: int
    mask: np.ndarray
    prediction: np.ndarray


def write_pairs(folder: Path, count: int, compression: str, seed: int = 2022) -> list[Pair]:
    """Write `count` references and predictions below `folder`/ref and `folder`/pred; return their paths."""
    scene = _Scene(folder, count, compression, seed, *_draw_maps(seed))
    (folder / "pred").mkdir(parents=True)
    for domain in DOMAINS:
        (folder / "ref" / domain / "Z1_UN" / "msk").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        pairs = pool.map(partial(_write_pair, scene), range(count), chunksize=50)
        return list(tqdm(pairs, "writing", count, unit=" pairs", leave=False, disable=None))


def mean_size(paths: Iterable[str]) -> float:
    """Mean size of files in kB."""
    return float(np.mean([Path(path).stat().st_size for path in paths])) / 1e3


def _draw_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Annotation values 1..19 in polygons, and class indices 0..12 as a model might predict them, uint8."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, _SIDE, ((_SIDE // _REGION) ** 2, 2))
    tree = cKDTree(centres)
    values = (1 + 19 * rng.random(len(centres)) ** 1.7).astype(np.uint8)
    positions = np.indices((_SIDE, _SIDE), np.float32)
    bent = positions + np.stack([_waves(rng, 25, 15) for _ in range(2)])
    ragged = bent + np.stack([_waves(rng, 1.5, 4) for _ in range(2)])
    _, region = tree.query(bent.reshape(2, -1).T, workers=-1)
    _, answered = tree.query(ragged.reshape(2, -1).T, workers=-1)
    answers = np.where(rng.random(len(centres)) < 0.2, rng.permutation(values), values)
    answer = answers[answered].reshape(_SIDE, _SIDE)
    strays = _waves(rng, 2.5, 1) > 1.5  # small islands of another class
    answer = np.where(strays, rng.permutation(values)[region].reshape(_SIDE, _SIDE), answer)
    return values[region].reshape(_SIDE, _SIDE), np.minimum(answer - 1, 12)


def _waves(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """Noise, smooth over `width` pixels, with the standard deviation `height`: float32 (_SIDE, _SIDE)."""
    noise = gaussian_filter(rng.standard_normal((_SIDE, _SIDE), np.float32), width)
    return noise * (height / noise.std())


def _write_pair(scene: _Scene, number: int) -> Pair:
    rng = np.random.default_rng([scene.seed, number])
    row, column = rng.integers(0, _SIDE - 512, 2)
    turns = int(rng.integers(4))
    domain = DOMAINS[number * len(DOMAINS) // scene.count]
    id = f"{FIRST_ID + number:06d}"
    reference = scene.folder / "ref" / domain / "Z1_UN" / "msk" / f"MSK_{id}.tif"
    prediction = scene.folder / "pred" / f"PRED_{id}.tif"
    for path, labels in ((reference, scene.mask), (prediction, scene.prediction)):
        patch = np.rot90(labels[row : row + 512, column : column + 512], turns)
        image = Image.fromarray(np.ascontiguousarray(patch))
        image.save(path, compression=_COMPRESSIONS[scene.compression])
    return str(reference), str(prediction)
