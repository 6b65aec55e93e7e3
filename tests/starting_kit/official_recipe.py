"""Weights and inputs that the official model and ours were both given; from numpy's PCG64 alone."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch

STEP = 1021  # one pixel in so many of the aerial logits is kept
CASES = {1: False, 12: True, 55: False, 114: False}  # dates -> whether they are fed as monthly means
METADATA = {
    "date": "2019-08-26",
    "time": "09h07",
    "patch_centroid_x": 873782.4,
    "patch_centroid_y": 6891028.8,
    "patch_centroid_z": -3.2,
    "camera": "UCE-M3-f100",
}
MARGIN = 2e-4  # of the largest logit: labels with a smaller lead may differ when logits differ by 1e-4 of it


def draw(seed: int, *shape: int) -> np.ndarray:
    """float64 in [0, 1)."""
    return np.random.Generator(np.random.PCG64(seed)).random(shape)


def draw_tensors(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """A state dict as after training, from names and shapes in the order given."""
    tensors = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        values = draw(seed, *shape)
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(1000)
            continue
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = 0.5 + values
        elif name.endswith(("bias", "running_mean")):
            values = 0.2 * (values - 0.5)
        else:  # uniform, of the variance 1 / inputs
            values = (values - 0.5) * math.sqrt(12 / math.prod(shape[1:]))
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors


def draw_inputs(dates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """aerial uint8 (5, 512, 512), digital numbers uint16 (T, 10, 40, 40), days of the year int (T,)."""
    fields = draw(999, 5, 16, 16).repeat(32, 1).repeat(32, 2)
    aerial = (200 * fields + 56 * draw(1000, 5, 512, 512)).astype(np.uint8)
    numbers = (8000 * draw(1000 + dates, dates, 10, 40, 40)).astype(np.uint16)
    return aerial, numbers, np.sort((365 * draw(2000 + dates, dates)).astype(int))


def summarise(aerial: np.ndarray, satellite: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of the official model's logits (13, 512, 512) and (13, 10, 10)."""
    labels = aerial.argmax(0).ravel().astype(np.uint8)
    second, first = np.sort(aerial, axis=0)[-2:]
    uncertain = np.flatnonzero((first - second).ravel() < MARGIN * np.abs(aerial).max())
    return {
        "aerial": aerial.reshape(13, -1)[:, ::STEP],
        "satellite": satellite,
        "largest": np.abs(aerial).max(),
        "uncertain": uncertain.astype(np.int32),
        "labels": np.array(hash_labels(labels, uncertain)),
        "counts": np.bincount(labels, minlength=13),
    }


def hash_labels(labels: np.ndarray, uncertain: np.ndarray) -> str:
    """SHA-256 of labels uint8 (n,) without those at the indices `uncertain`."""
    return hashlib.sha256(np.delete(labels, uncertain).tobytes()).hexdigest()
