"""Confusion matrices of many ensembles at once, from the kept probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from flair_baseline.planning.probabilities import CLASSES
from flair_baseline.planning.selection import Key, State

CHUNK = 8  # patches that are compared at once


def compare(
    states: Sequence[State],
    kept: Mapping[Key, np.ndarray],
    references: np.ndarray,
    domains: Sequence[str],
    device: torch.device,
) -> np.ndarray:
    """The confusion matrices of ensembles by domain, int64 (states, domains, 13, 13).

    kept: the mapped files of `keep_probabilities`; references: uint8 (N, pixels); domains: the domain of each
    patch. The domains of the result are sorted by name. Rows are references, as in the scoring program.
    """
    names = sorted(set(domains))
    matrices = np.zeros((len(states), len(names), CLASSES, CLASSES), np.int64)
    used = sorted({(name, views) for state in states for name, (views, _) in state.items()})
    weights = [_weigh(state, device) for state in states]
    order = np.argsort(np.array(domains), kind="stable")
    chunks = [
        (index, rows[first : first + CHUNK])
        for index, name in enumerate(names)
        for rows in [order[np.array(domains)[order] == name]]
        for first in range(0, len(rows), CHUNK)
    ]
    title = f"comparing {len(states)} ensembles"
    for index, rows in tqdm(chunks, title, unit="request", dynamic_ncols=True, leave=False, disable=None):
        reference = torch.from_numpy(references[rows].astype(np.int64)).to(device) * CLASSES
        maps = {key: torch.from_numpy(kept[key][rows]).to(device).flatten(2).float() for key in used}
        for number, parts in enumerate(weights):
            total = sum(maps[key] * weight for key, weight in parts)
            assert isinstance(total, Tensor)
            labels = total.max(1).indices  # on the CPU faster than argmax
            counts = torch.bincount((reference + labels).flatten(), minlength=CLASSES**2)
            matrices[number, index] += counts.view(CLASSES, CLASSES).cpu().numpy()
    return matrices


def _weigh(state: State, device: torch.device) -> list[tuple[Key, Tensor]]:
    """The weights of each member; those by class add up to 1 for each class, as in the packed ensemble."""
    weights = [torch.tensor(own, dtype=torch.float64).reshape(-1, 1) for _, own in state.values()]
    if any(len(own) > 1 for own in weights):
        total = sum(own.expand(CLASSES, 1) for own in weights)
        weights = [own / total for own in weights]
    keys = [(name, views) for name, (views, _) in state.items()]
    return [(key, own.float().to(device)) for key, own in zip(keys, weights, strict=True)]
