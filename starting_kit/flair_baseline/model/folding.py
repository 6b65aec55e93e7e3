"""Batch norm folded into the layers before it: the same function with less to compute, for inference only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # type: ignore[import-untyped]

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)  # these exactly: subclasses of other libraries do more than normalise


def fold_batch_norm(model: nn.Module) -> None:
    """Fold, in place, every batch norm of an eval-mode model whose place in the computation is known.

    Those are the ones after a convolution or a linear layer in a Sequential, and torchvision's ResNets. All
    others, as in most encoders of timm, stay as they are.
    """
    for module in list(model.modules()):
        for name, norm_name in list(_find_pairs(module)):
            layer, norm = getattr(module, name), getattr(module, norm_name)
            if isinstance(layer, nn.Linear):
                folded: nn.Module = fuse_linear_bn_eval(layer, norm)
            else:
                folded = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
            setattr(module, name, folded)
            setattr(module, norm_name, nn.Identity())


def _find_pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers that are applied one right after the other, the second a batch norm."""
    children = dict(module.named_children())
    pairs: list[tuple[str, str]] = []
    if isinstance(module, nn.Sequential):
        pairs = list(pairwise(children))
    elif isinstance(module, ResNet | BasicBlock | Bottleneck):
        pairs = [(name, name.replace("conv", "bn")) for name in children if name.startswith("conv")]
    for name, norm_name in pairs:
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        if isinstance(children[name], layers) and type(children[norm_name]) in NORMS:
            yield name, norm_name
