"""Losses of segmentation_models.pytorch for the aerial branch: dice, lovasz and focal.

dice and lovasz measure how well whole regions overlap, so they are no sums over pixels. All three are
computed for each batch of each rank by itself. Their value in a step, or in a validation, is the mean over
its batches, each counted by its number of patches; it depends on batch_size and on the number of ranks.

A pixel whose class has the aerial weight 0, such as *other*, is ignored, and such a class is not averaged:

- dice: 1 - Dice of the pixels of the whole batch, the plain mean over the counted classes. A class that does
  not occur in the batch adds 0.
- lovasz: the Lovász extension of 1 - IoU over the whole batch, the plain mean over the classes that occur.
- focal: each class against all others, a binary cross-entropy times (1 - p)², the mean over all pixels. The
  mean over the classes is weighted by aerial_class_weights.

Logits of lower resolution than the labels are enlarged to it by nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from segmentation_models_pytorch.losses import (
    BINARY_MODE,
    MULTICLASS_MODE,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
)
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255  # in place of labels whose class has no weight


def compute_region_losses(names: Sequence[str], logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The named losses of a batch, float32 (len(names),); all are 0 if no pixel counts.

    logits (B, C, n, n); labels uint8 (B, H, W) with class indices; weights float32 (C,) of the classes.
    """
    logits = logits.float()
    counted = weights > 0
    pixels = counted[labels.long()]
    if not pixels.any():
        return logits.sum() * torch.zeros(len(names), device=logits.device)  # a gradient of 0 for DDP
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="nearest")
    targets = labels.long().masked_fill(~pixels, IGNORED)
    return torch.stack([_LOSSES[name](logits, targets, weights) for name in names])


def _dice(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    classes = weights.nonzero().flatten().tolist()
    return DiceLoss(MULTICLASS_MODE, classes=classes, ignore_index=IGNORED)(logits, targets)


def _lovasz(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return LovaszLoss(MULTICLASS_MODE, ignore_index=IGNORED)(logits, targets)


def _focal(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    # versions of smp disagree on how its multiclass mode adds up the classes
    one_class = FocalLoss(BINARY_MODE)
    pixels = targets != IGNORED
    targets, logits = targets[pixels], logits.movedim(1, 0)[:, pixels]
    losses = [one_class(logits[index], (targets == index).long()) for index in range(len(weights))]
    return torch.stack(losses) @ weights / weights.sum()


_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dice": _dice,
    "lovasz": _lovasz,
    "focal": _focal,
}
NAMES = tuple(_LOSSES)
