"""The loss L = L_aerial + L_sat: weighted cross-entropies (datapaper, "Network supervision").

The functions return sums over pixels for the two branches, aerial first. A loss is such a sum divided by the
sum of the pixels' weights; kept apart, both add up over micro-batches to exactly the loss of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from flair_baseline.config import Config


def class_weights(config: Config) -> Tensor:
    """Class weights of both branches, float32 (2, 13), aerial first."""
    return torch.tensor([config.aerial_class_weights, config.satellite_class_weights], dtype=torch.float32)


def sum_losses(scores: Tensor, satellite_scores: Tensor | None, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropies summed over pixels, float32 (2,); the second 0 without satellite scores.

    scores (B, C, n, n) and satellite_scores (B, C, m, m) of any resolution up to that of the labels, uint8
    (B, H, W); weights float32 (2, C).
    """
    aerial = sum_cross_entropy(scores, labels, weights[0])
    if satellite_scores is None:
        return torch.stack([aerial, torch.zeros_like(aerial)])
    return torch.stack([aerial, sum_cross_entropy(satellite_scores, labels, weights[1])])


def sum_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """What to divide `sum_losses` by: the weights of all pixels, float64 (2,); 0 where no pixel counts."""
    counts = torch.bincount(labels.flatten(), minlength=weights.shape[1])
    return weights.double() @ counts.double()


def sum_cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight * cross-entropy over the labelled pixels, with scores stretched to their resolution.

    The paper stretches the cropped satellite scores (B, C, 10, 10) to 512 x 512. With nearest interpolation
    the pixels of a cell share its scores: counting their labels gives the same sum at a fraction of the cost.
    """
    if scores.shape[-2:] == labels.shape[-2:]:
        # reduction="sum" has no deterministic algorithm on CUDA, Tensor.sum has
        return F.cross_entropy(scores.float(), labels.long(), weights, reduction="none").sum()
    counts = count_labels(labels, scores.shape[1], scores.shape[-1])
    return -(scores.float().log_softmax(1) * counts * weights[:, None, None]).sum()


def count_labels(labels: Tensor, classes: int, cells: int) -> Tensor:
    """Pixels of each class in each of cells x cells: uint8 (B, H, W) -> float32 (B, classes, cells, cells).

    Row i of H belongs to cell floor(i * cells / H), as in nearest interpolation: 51 or 52 of 512 rows are in
    each of 10 cells.
    """
    batch, height, width = labels.shape
    rows = torch.arange(height, device=labels.device) * cells // height
    columns = torch.arange(width, device=labels.device) * cells // width
    cell = rows[:, None] * cells + columns
    patch = torch.arange(batch, device=labels.device)[:, None, None]
    bins = (patch * cells**2 + cell) * classes + labels
    counts = torch.bincount(bins.flatten(), minlength=batch * cells**2 * classes)
    return counts.view(batch, cells, cells, classes).permute(0, 3, 1, 2).float()
