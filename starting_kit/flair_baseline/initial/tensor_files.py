"""Tensors by name from the files of others: .safetensors, and what torch.save wrote.

Pickles can run code when they are loaded. torch's weights-only reader refuses what could; for objects that
are no tensors, such as those that Lightning stores beside them, it gets an inert stand-in of each class.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from flair_baseline.checkpoint import begins_as_safetensors, describe_content
from flair_scoring.base.errors import DataError, list_names

_TORCH = (b"PK", b"\x80")  # first bytes of what torch.save writes: a zip today, a pickle in old versions
_REFUSED = re.compile(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)")
_FILLED = re.compile(r"Can only (\w+) .*but got <class '([^']+)'>")
_DEPTH = 4  # of mappings inside each other, as in {"checkpoint": {"model": {"state_dict": ...}}}


class _Inert:
    """Stands in for the objects of a checkpoint that are no tensors: it takes any state and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping(_Inert):
    """Stands in for classes such as defaultdict: torch's reader puts items into a plain mapping only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _InertList(_Inert):
    """Stands in for classes such as deque: torch's reader puts items into a plain list only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


def _make_stand_in(name: str, kind: type[_Inert]) -> type[_Inert]:
    module, _, own = name.rpartition(".")
    return type(own, (kind,), {"__module__": module})


def read_tensors(path: Path, expected: str) -> dict[str, Tensor]:
    """The tensors of the one network in a .safetensors file or in what torch.save wrote, on the CPU, by name.

    The first bytes decide what the file is, not its name. `expected` says in errors what the tensors should
    be. Raises DataError, which says what the file is instead.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if begins_as_safetensors(start) or not start.startswith(_TORCH):
            return dict(load_file(path))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); expected {expected}") from error
    except SafetensorError as error:
        raise DataError(f"{path}: cannot be read ({describe_content(path)}); expected {expected}") from error
    found = _find_tensors(_load_saved(path), path, expected)
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _load_saved(path: Path) -> Any:
    """What torch.save wrote, on the CPU, with inert objects in the place of those that are no plain values.

    Raises DataError when torch.save did not write the file, or when it holds objects that could run code.
    """
    try:
        with path.open("rb") as file:  # from a name torch would guess what the file is
            return _load(file)
    except Exception as error:
        if found := _REFUSED.search(str(error)):
            raise DataError(f"{path}: {_explain_objects(found[1])}") from error
        if zipfile.is_zipfile(path) and (told := _explain_zip(path)):
            raise DataError(f"{path}: {told}") from error
        reason = error.strerror if isinstance(error, OSError) and error.filename else _describe_failure(path)
        raise DataError(f"{path}: cannot be read ({reason}); expected what torch.save wrote") from error


def _load(file: BinaryIO) -> Any:
    zipped = file.read(2) == b"PK"
    file.seek(0)
    kinds = dict.fromkeys(get_unsafe_globals_in_checkpoint(file) if zipped else [], _Inert)
    while True:
        file.seek(0)
        try:
            stand_ins: list[Any] = [_make_stand_in(name, kind) for name, kind in kinds.items()]
            with safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, on the format of the file
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            filled = _FILLED.search(str(error))
            if filled is None or kinds.get(filled[2]) is not _Inert:
                raise
            kinds[filled[2]] = _InertMapping if filled[1].startswith("SETITEM") else _InertList


def _explain_zip(path: Path) -> str | None:
    """What a zip is that torch.save did not write, and what to do; None for another one."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "is a TorchScript archive, a program; save the tensors alone with "
            "torch.save(model.state_dict(), FILE)"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return None
    held = list_names(names, shown=3) or "nothing"
    return f"is a zip with {held} in it; unpack it and give the file of the weights"


def _describe_failure(path: Path) -> str:
    found = describe_content(path)
    return "it is damaged, or torch.save did not write it" if "torch.save" in found else found


def _explain_objects(name: str) -> str:
    return (
        f"holds objects of {name}, which could run code and are not loaded; save the tensors alone with "
        "torch.save(model.state_dict(), FILE)"
    )


def _find_tensors(loaded: Any, path: Path, expected: str) -> Mapping[str, Any]:
    """The mapping of names to tensors: all that was saved, or one of the mappings inside, or DataError.

    Other tensors may stand beside it, such as the loss or the weights of the classes: the tensors of a
    network have names with a dot.
    """
    levels = [{"": loaded} if isinstance(loaded, Mapping) else {}]
    for _ in range(_DEPTH):
        levels.append(
            {
                f"{outer}.{key}".removeprefix("."): value
                for outer, part in levels[-1].items()
                for key, value in part.items()
                if isinstance(key, str) and isinstance(value, Mapping)
            }
        )
    for fits in (_names_layers, _holds_tensors):
        for level in levels:
            found = {key: part for key, part in level.items() if fits(part)}
            usual = [key for key in found if key.split(".")[-1] == "state_dict"]
            if len(found) == 1 or len(usual) == 1:
                return found[usual[0]] if usual else next(iter(found.values()))
            if found:
                raise DataError(f"{path}: {explain_several(found)}")
    inside = loaded if isinstance(loaded, Mapping) else {}
    for part in (loaded, *inside.values()):
        if isinstance(part, _Inert):
            raise DataError(f"{path}: {_explain_objects(f'{type(part).__module__}.{type(part).__name__}')}")
    if {"state", "param_groups"} <= inside.keys():
        raise DataError(f"{path}: is the state of an optimizer; expected {expected}")
    told = "no tensors" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise DataError(f"{path}: holds {told}; expected {expected}")


def _names_layers(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(one, Tensor) and "." in str(name) for name, one in values.items())


def _holds_tensors(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(one, Tensor) for one in values.values())


def explain_several(names: Iterable[str]) -> str:
    """The part of a sentence that says that a file holds several networks, and their names."""
    quoted = [repr(name) for name in sorted(names)]
    return f"holds {len(quoted)} networks, {', '.join(quoted[:-1])} and {quoted[-1]}; save only one of them"
