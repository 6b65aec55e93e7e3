"""Tensors by name from the files of others: .safetensors, and what torch.save wrote.

Pickles can run code when they are loaded. torch's weights-only reader refuses what could; for objects that
are no tensors, such as those that Lightning stores beside them, it gets an inert stand-in of each class.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from flair_baseline.checkpoint import describe_content
from flair_scoring.base.errors import DataError

_TORCH = (b"PK", b"\x80")  # first bytes of what torch.save writes: a zip today, a pickle in old versions


class _Inert(dict):
    """Stands in for the objects of a checkpoint that are no tensors: it takes any state and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


def _make_stand_in(name: str) -> type[_Inert]:
    module, _, own = name.rpartition(".")
    return type(own, (_Inert,), {"__module__": module})


def read_tensors(path: Path, expected: str) -> dict[str, Tensor]:
    """The tensors of the one network in a .safetensors file or in what torch.save wrote, on the CPU, by name.

    The first bytes decide what the file is, not its name. `expected` says in errors what the tensors should
    be. Raises DataError, which says what the file is instead.
    """
    try:
        with path.open("rb") as file:
            saved_by_torch = file.read(2).startswith(_TORCH)
        if not saved_by_torch:
            return dict(load_file(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise DataError(f"{path}: cannot be read ({describe_content(path)}); expected {expected}") from error
    found = find_tensors(load_saved(path), path, expected)
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def load_saved(path: Path) -> Any:
    """What torch.save wrote, on the CPU, with inert objects in the place of those that are no plain values.

    Raises DataError when torch.save did not write the file, or when it holds objects that could run code.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        objects = get_unsafe_globals_in_checkpoint(path) if zipped else []
        with safe_globals([_make_stand_in(name) for name in objects]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise DataError(f"{path}: {_explain_objects(found[1])}") from error
        if zipfile.is_zipfile(path) and _is_program(path):
            raise DataError(
                f"{path}: is a TorchScript archive, a program; save the tensors alone with "
                "torch.save(model.state_dict(), FILE)"
            ) from error
        reason = error.strerror if isinstance(error, OSError) and error.filename else describe_content(path)
        raise DataError(f"{path}: cannot be read ({reason}); expected what torch.save wrote") from error


def _is_program(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _explain_objects(name: str) -> str:
    return (
        f"holds objects of {name}, which could run code and are not loaded; save the tensors alone with "
        "torch.save(model.state_dict(), FILE)"
    )


def find_tensors(loaded: Any, path: Path, expected: str) -> Mapping[str, Any]:
    """The mapping of names to tensors: all that was saved, or the value of one of its keys, or DataError."""
    if isinstance(loaded, Mapping) and _holds_tensors(loaded):
        return loaded
    inside = loaded if isinstance(loaded, Mapping) else {}
    found = {str(key): value for key, value in inside.items() if _holds_tensors(value)}
    if not found:  # one level further down, as in {"checkpoint": {"state_dict": ...}}
        nested = [
            value for key, value in inside.items() if isinstance(key, str) and isinstance(value, Mapping)
        ]
        found = {
            key: value
            for part in nested
            for key, value in part.items()
            if isinstance(key, str) and _holds_tensors(value)
        }
    if "state_dict" in found or len(found) == 1:
        return found.get("state_dict") or next(iter(found.values()))
    if found:
        raise DataError(f"{path}: {explain_several(found)}")
    for part in (loaded, *inside.values()):
        if isinstance(part, _Inert):
            raise DataError(f"{path}: {_explain_objects(f'{type(part).__module__}.{type(part).__name__}')}")
    if {"state", "param_groups"} <= inside.keys():
        raise DataError(f"{path}: is the state of an optimizer; expected {expected}")
    told = "no tensors" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise DataError(f"{path}: holds {told}; expected {expected}")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def explain_several(names: Iterable[str]) -> str:
    """The part of a sentence that says that a file holds several networks, and their names."""
    quoted = [repr(name) for name in sorted(names)]
    return f"holds {len(quoted)} networks, {', '.join(quoted[:-1])} and {quoted[-1]}; save only one of them"
