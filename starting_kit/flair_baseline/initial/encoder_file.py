"""Pretrained weights of an encoder from a local file: what encoder_weights may name instead of a download.

The file holds the encoder alone, named as smp or timm names it; a classifier behind it is left out. timm
writes a stage "stages.0" and smp's wrapper around it "model.stages_0": names are compared without that
difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from flair_baseline.initial.guess import guess_encoder
from flair_baseline.initial.layouts import LOSSES, unwrap
from flair_baseline.initial.matching import find_differences, find_first_layers, find_unusable
from flair_baseline.initial.tensor_files import explain_several, read_tensors
from flair_scoring.base.errors import DataError, UsageError, list_problems

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_LONGEST = 5  # differences in a message


def names_file(weights: str | None) -> bool:
    """Whether a value of encoder_weights is meant as a file: it ends as one, or has a folder in front."""
    return weights is not None and (weights.endswith(SUFFIXES) or "/" in weights)


def require_file(weights: str) -> None:
    """UsageError unless the file that encoder_weights names exists."""
    if not Path(weights).is_file():
        raise UsageError(
            f"encoder_weights={weights}: no such file; expected one with the weights of the encoder "
            f"({', '.join(SUFFIXES)}), the name of published weights, or null"
        )


@torch.no_grad()
def load_encoder(encoder: nn.Module, path: Path, name: str) -> None:
    """Take the weights of the encoder `name` from a file.

    A first layer for 3 bands is fitted to ours as smp and timm do: its bands are repeated in turn, and scaled
    by 3 / bands, so that outputs keep their size; for one band they are added up. Position embeddings for
    images of another size are interpolated, as timm does. Raises DataError when the file does not hold all
    tensors of this encoder.
    """
    ours = encoder.state_dict()
    theirs = _find_names(read_tensors(path, f"the weights of the encoder {name}"), ours, path)
    theirs |= _fit_positions(theirs, encoder)
    first = [f"{own}.weight" for own in find_first_layers(encoder)]
    problems = find_differences(theirs, ours, first) if theirs else []
    if not theirs:
        raise DataError(
            f"{path}: holds no weights of encoder={name}; expected its tensors, named as by smp or timm, "
            f"such as {first[0]}; for a whole network use --init-from"
        )
    if problems:
        looks = guess_encoder(theirs)
        title = f"{path}: not the weights of encoder={name}" + (f", but of {looks}" if looks else "")
        raise DataError(list_problems(title, problems, _LONGEST))
    count, given = ours[first[0]].shape[1], theirs[first[0]].shape[1]
    if given not in (3, count):
        raise DataError(f"{path}: its first layer reads {given} bands; expected 3 or {count}")
    if unusable := find_unusable(theirs, ours):
        raise DataError(list_problems(f"{path}: weights that cannot be used", unusable))
    if given != count:
        theirs |= {key: repeat_bands(theirs[key].float(), count) for key in first}
    found = {key: tensor.to(ours[key].dtype) for key, tensor in theirs.items() if key in ours}
    encoder.load_state_dict(ours | found)


def repeat_bands(weight: Tensor, count: int) -> Tensor:
    """Weights (outputs, 3, h, w) for `count` bands, as smp and timm fit pretrained first layers."""
    if count == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, [index % 3 for index in range(count)]] * (3 / count)


def _fit_positions(theirs: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A vision transformer's position embeddings for images of another size, interpolated for ours."""
    tokens = getattr(getattr(encoder, "model", encoder), "num_prefix_tokens", 0)
    fitted = {}
    for name, own in encoder.state_dict().items():
        given = theirs.get(name)
        if not name.endswith("pos_embed") or given is None or given.ndim != 3 or given.shape == own.shape:
            continue
        sides = [math.isqrt(max(one.shape[1] - tokens, 0)) for one in (given, own)]
        if all(side**2 == one.shape[1] - tokens for side, one in zip(sides, (given, own), strict=True)):
            fitted[name] = resample_abs_pos_embed(given.float(), [sides[1]] * 2, num_prefix_tokens=tokens)
    return fitted


def _find_names(tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of a file under the names that the encoder gives them; others keep their own.

    DataError when the file has several such encoders, as some self-supervised trainings write.
    """
    own = {_plain(name): name for name in ours}
    theirs = {
        _plain(unwrap(name)): (name, tensor)
        for name, tensor in tensors.items()
        if LOSSES not in name.split(".")
    }
    prefixes: dict[str, int] = {"": 0} | {
        name.removesuffix(end): 0 for name in theirs for end in own if name.endswith("." + end)
    }
    for prefix in prefixes:
        prefixes[prefix] = sum(prefix + name in theirs for name in own)
    best = max(prefixes, key=lambda prefix: prefixes[prefix])
    if not prefixes[best]:
        return {}
    several = [prefix for prefix, count in prefixes.items() if count == prefixes[best]]
    if len(several) > 1:
        raise DataError(f"{path}: {explain_several(several)}")
    cut = {name.removeprefix(best): value for name, value in theirs.items() if name.startswith(best)}
    return {own.get(name, original): tensor for name, (original, tensor) in cut.items()}


def _plain(name: str) -> str:
    """A name without what smp's wrapper of timm's networks changes in it."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace("_", ".")
