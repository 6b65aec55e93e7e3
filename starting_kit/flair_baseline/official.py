"""Turn checkpoints of the official code (IGNF/FLAIR-2) into models of this kit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from flair_baseline.config import Config
from flair_baseline.initial.layouts import LOSSES, OFFICIAL, unwrap
from flair_baseline.initial.matching import find_unusable
from flair_baseline.initial.start import FIRST_SATELLITE_LAYER, reflectance_factor
from flair_baseline.initial.tensor_files import explain_several, read_tensors
from flair_baseline.model.utt import UTT
from flair_baseline.training.learner import build_model
from flair_scoring.base.errors import DataError, list_problems

METADATA = "mtd_mlp."  # the names of the metadata's tensors begin with it
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


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of the network in a Lightning checkpoint or a state dict, under the network's own names.

    Prefixes that other code has put before these names are removed. Raises DataError when the file is no such
    checkpoint, or holds several networks.
    """
    return _strip_names(read_tensors(path, "the tensors of a U-T&T by name"), path)


def _strip_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under the official network's own names, without those of the losses."""
    named = {name: tensor for name, tensor in tensors.items() if LOSSES not in name.split(".")}
    prefixes = {name[: found.start()] for name in named if (found := OFFICIAL.search(name))}
    if len(prefixes) > 1:
        raise DataError(f"{path}: {explain_several(prefixes)}")
    prefix = next(iter(prefixes), "model.")
    return {unwrap(name.removeprefix(prefix)): tensor for name, tensor in named.items()}


def has_metadata(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the official network was built with metadata."""
    return any(name.startswith(METADATA) for name in tensors)


def convert(tensors: Mapping[str, Tensor], config: Config, source: Path) -> UTT:
    """A model of this kit with the weights of an official one, in eval mode.

    `config` must have `official_layers`. Our model is always fed reflectances, so the weights of its first
    layer are multiplied by `reflectance_factor`. Raises DataError, which lists all tensors that are
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
        if found is not None and found.shape != tensor.shape:
            problems.append(f"{official[name]}: {list(found.shape)}, expected {list(tensor.shape)}")
    problems += find_unusable(tensors, {official[name]: tensor for name, tensor in ours.items()})
    problems += [f"{name}: missing" for name in official.values() if name not in tensors]
    if problems:
        title = f"{source}: not a checkpoint of the official U-T&T"
        raise DataError(list_problems(title, problems))
    state = {name: tensors[official[name]].to(tensor.dtype) for name, tensor in ours.items()}
    state[FIRST_SATELLITE_LAYER] = state[FIRST_SATELLITE_LAYER] * reflectance_factor(config)
    model.load_state_dict(state)
    return model


def _official_name(name: str) -> str:
    for pattern, replacement in NAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    raise AssertionError(f"{name} has no official name")
