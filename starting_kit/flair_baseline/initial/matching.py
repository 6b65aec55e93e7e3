"""Given tensors matched with those of our network, part by part.

A part (the encoder, the decoder, the head, the U-TAE, ...) is taken as a whole or not at all: a decoder in
which half of the layers are another network's is of no use. Two parts may differ in one way: the first layer
may read other bands, and the head may have other classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ENCODER, DECODER, HEAD = "unet.encoder", "unet.decoder", "unet.segmentation_head"
# buffers that some versions of the libraries save and others do not
OPTIONAL = ("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask")


@dataclass
class Match:
    """Which tensors are taken, under our names, and why parts are not."""

    taken: dict[str, Tensor] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # part -> why it stays as it is


def part_of(name: str) -> str:
    """The part of the network that a tensor belongs to: "unet.encoder", "utae", ..."""
    first, second, *_ = name.split(".")
    return f"{first}.{second}" if first == "unet" else first


def find_first_layers(encoder: nn.Module, prefix: str = "") -> dict[str, nn.Conv2d]:
    """The convolutions that read the image, by name: the first one, and those beside it in its block.

    Encoders such as RepVGG and MobileOne have several that read the same input.
    """
    layers = {
        name: layer
        for name, layer in encoder.named_modules(prefix=prefix)
        if isinstance(layer, nn.Conv2d) and layer.groups == 1
    }
    (first, layer), *_ = layers.items()
    start = prefix.count(".") + 1 if prefix else 0
    own = first.split(".")[start:]
    block = ".".join([*first.split(".")[:start], *(own[:2] if own[0] == "model" else own[:1])])
    return {
        name: one
        for name, one in layers.items()
        if f"{name}.".startswith(f"{block}.") and one.in_channels == layer.in_channels
    }


def match_parts(
    given: Mapping[str, Tensor], ours: Mapping[str, Tensor], first_layers: Collection[str]
) -> Match:
    """Match all parts but the head; `first_layers` names the weights whose bands may differ."""
    match = Match()
    for part in dict.fromkeys(map(part_of, ours)):
        if part != HEAD:
            expected = {name: tensor for name, tensor in ours.items() if part_of(name) == part}
            theirs = {name: tensor for name, tensor in given.items() if part_of(name) == part}
            problems = find_differences(theirs, expected, first_layers) if theirs else ["the file has none"]
            if problems:
                more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
                match.reasons[part] = problems[0] + more
            else:
                match.taken |= {name: theirs[name] for name in expected if name in theirs}
    return match


def find_differences(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], first_layers: Collection[str]
) -> list[str]:
    """What is missing, of another shape, or too much among the tensors of one part."""
    problems = []
    for name, tensor in ours.items():
        if name not in theirs:
            problems += [] if name.endswith(OPTIONAL) else [f"{name} is missing"]
        elif not same_shape(theirs[name], tensor, name in first_layers):
            problems.append(f"{name} is {list(theirs[name].shape)}, here {list(tensor.shape)}")
    stages = {_stage(name) for name in ours}
    problems += [
        f"{name} has no counterpart"
        for name in theirs
        if name not in ours and _stage(name) in stages and not name.endswith(OPTIONAL)
    ]
    return problems


def find_unusable(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    """Which tensors of `theirs` do not hold numbers that those of `ours` with the same names can take."""
    problems = []
    for name, tensor in theirs.items():
        if name not in ours:
            continue
        own = ours[name].dtype
        if tensor.is_meta or tensor.layout != torch.strided:
            kind = "no numbers" if tensor.is_meta else "a sparse matrix"
            problems.append(f"{name}: holds {kind}; expected all numbers of the tensor")
        elif own.is_floating_point and not tensor.dtype.is_floating_point:
            kind = str(tensor.dtype).removeprefix("torch.")
            problems.append(f"{name}: holds {kind} numbers; expected floating-point ones")
        elif not tensor.to(own).isfinite().all():
            too_large = tensor.double().isfinite().all()
            kind = "numbers that are too large for float32" if too_large else "NaN or infinity"
            problems.append(f"{name}: holds {kind}")
    return problems


def same_shape(theirs: Tensor, ours: Tensor, but_for_bands: bool) -> bool:
    """Whether the shapes are equal, but for the second axis where that is allowed."""
    if but_for_bands and theirs.ndim == ours.ndim:
        return theirs.shape[:1] == ours.shape[:1] and theirs.shape[2:] == ours.shape[2:]
    return theirs.shape == ours.shape


def _stage(name: str) -> str:
    """A name up to its stage: deeper stages and classifiers of a file may be left over, other layers not."""
    parts = name.replace("_", ".").split(".")
    last = next((index for index, part in enumerate(parts) if any(map(str.isdigit, part))), len(parts) - 2)
    return ".".join(parts[: last + 1])
