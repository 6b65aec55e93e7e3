"""The part of a plan that computes on the device: predictions, and the choice among ensembles."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flair_baseline.machines.failures import explained_failures
from flair_baseline.machines.machine import choose_device
from flair_baseline.planning.apart import run_apart
from flair_baseline.planning.comparison import compare
from flair_baseline.planning.members import name_folder, require_unchanged
from flair_baseline.planning.probabilities import keep_probabilities, read_references
from flair_baseline.planning.selection import Key, State, Step, select
from flair_ingestion.dataset import Patch

_REMEDY = "lower --batch-size, or leave the largest model out"


@dataclass(frozen=True)
class Search:
    """What is chosen among, and how.

    `members` maps the names of models to runs or weights, `hashes` has those of their weights as the plan
    began, `costs` their time ratios, and `mib` the sizes of their weights, which together may have
    `most_mib`. `folder` keeps predictions of the `patches`.
    """

    members: Mapping[str, Path]
    hashes: Mapping[str, str]
    costs: Mapping[Key, float]
    mib: Mapping[str, float]
    budget: float
    most_mib: float
    patches: Sequence[Patch]
    folder: Path
    device: str
    batch_size: int
    class_weights: bool


def choose(search: Search, apart: bool) -> tuple[list[Step], list[Step]]:
    """What `select` returns; with `apart`, this process does not touch the device.

    A process that has computed on a GPU holds a part of it until it ends, and a busy GPU is not timed.
    """
    if apart:
        return run_apart(predict_and_select, search, remedy=_REMEDY)
    return predict_and_select(search)


def predict_and_select(search: Search) -> tuple[list[Step], list[Step]]:
    """Predict the patches by all models, unless that was done before, and search for the best ensemble."""
    device = choose_device(search.device)
    kept: dict[Key, np.ndarray] = {}
    for name, path in search.members.items():
        require_unchanged({name: path}, search.hashes)
        folder = search.folder / name_folder(search.hashes[name])
        with explained_failures(_REMEDY):
            arrays = keep_probabilities(path, search.patches, folder, device, search.batch_size)
        kept |= {(name, views): array for views, array in arrays.items()}
    compare_states = functools.partial(
        compare,
        kept=kept,
        references=read_references(search.patches),
        domains=[patch.domain for patch in search.patches],
        device=device,
    )
    usable = {key: cost for key, cost in search.costs.items() if key in kept}
    allow = functools.partial(_fits_size, search=search)
    return select(usable, search.budget, compare_states, search.class_weights, allow)


def _fits_size(state: State, search: Search) -> bool:
    return sum(search.mib[name] for name in state) <= search.most_mib
