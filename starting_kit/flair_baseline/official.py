"""Turn checkpoints of the official code (IGNF/FLAIR-2) into models of this kit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from flair_baseline.checkpoint import describe_content
from flair_baseline.config import Config
from flair_baseline.model.sentinel import REFLECTANCE_ONE
from flair_baseline.model.utt import UTT
from flair_baseline.training.learner import build_model
from flair_scoring.base.errors import DataError, list_problems

METADATA = "mtd_mlp."  # the names of the metadata's tensors begin with it
LOSSES = "criterion"  # part of the names of the losses' tensors
NETWORK = re.compile(r"(?<![^.])(arch_vhr|arch_hr|fm_utae_featmap_\w+|mtd_mlp|reshape_utae_output)\.")
WRAPPERS = {"module", "_orig_mod"}  # names that parallel and compiled modules give the module inside them
NAMES = (  # our names as patterns, and the official names
    (r"^unet\.", "arch_vhr."),
    (r"^utae\.(in_conv|out_conv)\.", r"arch_hr.\1.conv.conv."),
    (r"^utae\.(down_blocks\.\d\.\w+|up_blocks\.\d\.conv\d)\.", r"arch_hr.\1.conv."),
    (r"^utae\.", "arch_hr."),
    (r"^fusion\.cropped\.", "fm_utae_featmap_cropped.conv_list."),
    (r"^fusion\.collapsed\.", "fm_utae_featmap_collapsed.mlps."),
    (r"^metadata\.mlp\.", "mtd_mlp.enc_mlp."),
    (r"^official_head\.", "reshape_utae_output.1."),
)
FIRST_SATELLITE_LAYER = "utae.in_conv.0.weight"


class _Inert(dict):
    """Stands in for the objects of a checkpoint that are no tensors: it takes any state and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


def _make_stand_in(name: str) -> type[_Inert]:
    module, _, own = name.rpartition(".")
    return type(own, (_Inert,), {"__module__": module})


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of the network in a Lightning checkpoint or a state dict, under the network's own names.

    Prefixes that other code has put before these names are removed. Lightning also stores objects of its
    own. They are not needed and could run code when loaded, so torch's weights-only reader gets an inert
    stand-in for each of their classes. Raises DataError when the file is no such checkpoint, or holds several
    networks.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        objects = get_unsafe_globals_in_checkpoint(path) if zipped else []
        with safe_globals([_make_stand_in(name) for name in objects]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise DataError(f"{path}: {_explain_objects(found[1])}") from error
        reason = error.strerror if isinstance(error, OSError) and error.filename else describe_content(path)
        raise DataError(f"{path}: cannot be read ({reason}); expected what torch.save wrote") from error
    return _strip_names(_find_tensors(loaded, path), path)


def _explain_objects(name: str) -> str:
    return (
        f"holds objects of {name}, which could run code and are not loaded; save the tensors alone with "
        "torch.save(model.state_dict(), FILE)"
    )


def _find_tensors(loaded: Any, path: Path) -> Mapping[str, Tensor]:
    """The mapping of names to tensors: all that was saved, or the value of one of its keys."""
    if isinstance(loaded, Mapping) and _holds_tensors(loaded):
        return loaded
    inside = loaded if isinstance(loaded, Mapping) else {}
    found = {str(key): value for key, value in inside.items() if _holds_tensors(value)}
    if "state_dict" in found or len(found) == 1:
        return found.get("state_dict") or next(iter(found.values()))
    if found:
        raise DataError(f"{path}: {_explain_several(found)}")
    for part in (loaded, *inside.values()):
        if isinstance(part, _Inert):
            raise DataError(f"{path}: {_explain_objects(f'{type(part).__module__}.{type(part).__name__}')}")
    told = "no tensors" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise DataError(f"{path}: holds {told}; expected the tensors of a U-T&T by name")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def _explain_several(names: Iterable[str]) -> str:
    quoted = [repr(name) for name in sorted(names)]
    return f"holds {len(quoted)} networks, {', '.join(quoted[:-1])} and {quoted[-1]}; save only one of them"


def _strip_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under the official network's own names, without those of the losses."""
    named = {str(name): tensor for name, tensor in tensors.items() if LOSSES not in str(name).split(".")}
    prefixes = {name[: found.start()] for name in named if (found := NETWORK.search(name))}
    if len(prefixes) > 1:
        raise DataError(f"{path}: {_explain_several(prefixes)}")
    prefix = next(iter(prefixes), "model.")
    return {_unwrap(name.removeprefix(prefix)): tensor for name, tensor in named.items()}


def _unwrap(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def has_metadata(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the official network was built with metadata."""
    return any(name.startswith(METADATA) for name in tensors)


def convert(tensors: Mapping[str, Tensor], config: Config, source: Path) -> UTT:
    """A model of this kit with the weights of an official one, in eval mode.

    `config` must have `official_layers`. The official code feeds monthly means of Sentinel-2 as digital
    numbers, and single dates as fractions of 65535. Our model is always fed reflectances, so the weights of
    its first layer are multiplied by the ratio. Raises DataError, which lists all tensors that are
    unexpected, missing, of another shape or not finite.
    """
    model = build_model(replace(config, encoder_weights=None)).eval()
    ours = model.state_dict()
    official = {name: _official_name(name) for name in ours}
    expected = set(official.values())
    if not expected & tensors.keys():
        some = ", ".join(list(tensors)[:3])
        raise DataError(f"{source}: no checkpoint of the official U-T&T; it holds other tensors ({some} …)")
    problems = [f"{name}: unexpected" for name in tensors if name not in expected]
    for name, tensor in ours.items():
        found = tensors.get(official[name])
        if found is not None and (not isinstance(found, Tensor) or found.shape != tensor.shape):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            problems.append(f"{official[name]}: {shape}, expected {list(tensor.shape)}")
        elif found is not None and not found.isfinite().all():
            problems.append(f"{official[name]}: holds NaN or infinity, expected finite numbers")
    problems += [f"{name}: missing" for name in official.values() if name not in tensors]
    if problems:
        title = f"{source}: not a checkpoint of the official U-T&T"
        raise DataError(list_problems(title, problems))
    state = {name: tensors[official[name]].to(tensor.dtype) for name, tensor in ours.items()}
    fed = 1 if config.monthly_average else 1 / 65535
    state[FIRST_SATELLITE_LAYER] = state[FIRST_SATELLITE_LAYER] * (REFLECTANCE_ONE * fed)
    model.load_state_dict(state)
    return model


def _official_name(name: str) -> str:
    for pattern, replacement in NAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    raise AssertionError(f"{name} has no official name")
