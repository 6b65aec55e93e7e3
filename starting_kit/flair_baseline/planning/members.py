"""The weights of a plan's members: they must stay the same from the first time to the submission."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from flair_baseline.packaging import resolve_weights
from flair_scoring.base.errors import UsageError, list_problems


def hash_weights(member: Path) -> str:
    """SHA-256 of the file of the weights of a run, which also holds their configuration."""
    with resolve_weights(member).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_folder(weights_hash: str) -> str:
    """The name of the folder of a model's predictions: it does not depend on the other models of a plan."""
    return weights_hash[:16]


def require_unchanged(members: Mapping[str, Path], hashes: Mapping[str, str]) -> None:
    """UsageError unless the weights still have the hashes that `hash_weights` gave when the plan began."""
    if changed := [path for name, path in members.items() if _hash_if_there(path) != hashes[name]]:
        problem = (
            "its weights have changed since this plan began, as when train.py saves a better epoch; run "
            "plan.py again when the training has ended, or plan with a copy of the run"
        )
        told = [f"{path}: {problem}" for path in changed]
        raise UsageError(told[0] if len(told) == 1 else list_problems("models", told))


def _hash_if_there(member: Path) -> str | None:
    try:
        return hash_weights(member)
    except OSError:
        return None
