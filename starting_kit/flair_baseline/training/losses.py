"""The loss L = L_aerial + L_sat: weighted cross-entropies (datapaper, "Network supervision").

The functions return sums over pixels for the two branches, aerial first. A loss is the sum of the weighted
cross-entropies divided by the sum of the weights. Both sums add up over batches and ranks, and their quotient
is then exactly the loss of all pixels together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from flair_baseline.config import Config


def class_weights(config: Config) -> Tensor:
    """Class weights of both branches, float32 (2, 13), aerial first."""
    return torch.tensor([config.aerial_class_weights, config.satellite_class_weights], dtype=torch.float32)


def sum_losses(logits: Tensor, satellite_logits: Tensor | None, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropies summed over pixels, float32 (2,); the second is 0 without satellite logits.

    logits (B, C, n, n) and satellite_logits (B, C, m, m), whose resolution may be lower than that of the
    labels uint8 (B, H, W); weights float32 (2, C).
    """
    aerial = sum_cross_entropy(logits, labels, weights[0])
    if satellite_logits is None:
        return torch.stack([aerial, torch.zeros_like(aerial)])
    return torch.stack([aerial, sum_cross_entropy(satellite_logits, labels, weights[1])])


def sum_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Sums of the pixels' weights, by which `sum_losses` is divided: float64 (2,), 0 if no pixel counts."""
    counts = torch.bincount(labels.flatten(), minlength=weights.shape[1])
    return weights.double() @ counts.double()


def sum_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight * cross-entropy over all pixels of the labels, to whose size the logits are enlarged.

    The paper enlarges the cropped satellite logits (B, C, 10, 10) to 512 x 512. With nearest interpolation
    all pixels of a cell have its logits: counting their labels gives the same sum at a fraction of the cost.
    """
    if logits.shape[-2:] == labels.shape[-2:]:
        # reduction="sum" has no deterministic algorithm on CUDA, Tensor.sum has
        return F.cross_entropy(logits.float(), labels.long(), weights, reduction="none").sum()
    counts = count_labels(labels, logits.shape[1], logits.shape[-1])
    return -(logits.float().log_softmax(1) * counts * weights[:, None, None]).sum()


def count_labels(labels: Tensor, classes: int, cells: int) -> Tensor:
    """Pixels of each class in each of cells x cells: uint8 (B, H, W) -> float32 (B, classes, cells, cells).

    Row i of H is in cell floor(i * cells / H), as in nearest interpolation: each of 10 cells has 51 or 52 of
    512 rows.
    """
    batch, height, width = labels.shape
    rows = torch.arange(height, device=labels.device) * cells // height
    columns = torch.arange(width, device=labels.device) * cells // width
    cell = rows[:, None] * cells + columns
    patch = torch.arange(batch, device=labels.device)[:, None, None]
    bins = (patch * cells**2 + cell) * classes + labels
    counts = torch.bincount(bins.flatten(), minlength=batch * cells**2 * classes)
    return counts.view(batch, cells, cells, classes).permute(0, 3, 1, 2).float()
