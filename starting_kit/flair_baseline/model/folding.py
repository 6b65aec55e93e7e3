"""Batch norm folded into the layer before it: less to compute for the same outputs, for inference only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # type: ignore[import-untyped]

# exactly these classes: their subclasses in other libraries do more than normalise
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def fold_batch_norm(model: nn.Module) -> None:
    """Fold batch norms into the layers before them, in place; the model must be in eval mode.

    A batch norm is folded if it certainly runs right after its layer: in a Sequential, after a convolution or
    a linear layer, and in torchvision's ResNets. All other batch norms, as in most encoders of timm, stay.
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
    """Names of a layer and of the batch norm that runs right after it."""
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
