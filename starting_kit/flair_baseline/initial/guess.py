"""Which encoder a set of tensors belongs to, for the error that says so."""

from __future__ import annotations

from collections.abc import Mapping

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from flair_baseline.initial.matching import OPTIONAL

# the beginning of a name that a family has, and its members in smp's words
FAMILIES = (
    ("layer1.", ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
    ("_blocks.", tuple(f"efficientnet-b{number}" for number in range(8))),
    (
        "model.stem",
        (
            *(f"tu-convnext_{size}" for size in ("atto", "femto", "pico", "nano", "tiny", "small", "base")),
            *(f"tu-convnextv2_{size}" for size in ("atto", "nano", "tiny", "base", "large")),
            *("tu-maxvit_tiny_tf_512", "tu-maxvit_small_tf_512", "tu-maxvit_base_tf_512"),
        ),
    ),
    (
        "model.patch_embed",
        (
            *("tu-swin_tiny_patch4_window7_224", "tu-swin_small_patch4_window7_224"),
            *("tu-swin_base_patch4_window12_384", "tu-swin_large_patch4_window12_384"),
        ),
    ),
)
_MIT_DEPTHS = {2: "mit_b1", 6: "mit_b2", 18: "mit_b3", 27: "mit_b4", 40: "mit_b5"}  # blocks of stage 3


def guess_encoder(tensors: Mapping[str, Tensor]) -> str | None:
    """The encoder of smp that has these tensors, named as in smp, or None; not all encoders are known."""
    if "patch_embed1.proj.weight" in tensors:
        depth = len({name.split(".")[1] for name in tensors if name.startswith("block3.")})
        return "mit_b0" if tensors["patch_embed1.proj.weight"].shape[0] == 32 else _MIT_DEPTHS.get(depth)
    families = (names for start, names in FAMILIES if any(name.startswith(start) for name in tensors))
    theirs = _widths(tensors)
    for name in next(families, ()):
        with torch.device("meta"):  # shapes without values
            state = smp.encoders.get_encoder(name, in_channels=3, depth=5, weights=None).state_dict()
        if _widths(state) == theirs:
            return name
    return None


def _widths(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of outputs of each layer; that of its inputs depends on the bands in the first one."""
    weights = {name: one for name, one in tensors.items() if one.ndim > 1 and not name.endswith(OPTIONAL)}
    return {name: one.shape[0] for name, one in weights.items()}
