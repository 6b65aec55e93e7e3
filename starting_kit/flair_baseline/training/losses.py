"""The loss L = L_aerial + L_sat: weighted cross-entropies (datapaper, "Network supervision").

The functions return sums over pixels for the two branches, aerial first. A loss is the sum of the weighted
cross-entropies divided by the sum of the weights. Both sums add up over batches and ranks, and their quotient
is then exactly the loss of all pixels together.

With other losses than cross_entropy in its configuration, L_aerial is the sum of all of them times their
weights. The terms of L are then the two cross-entropies, aerial first, and after them the losses of
region_losses.py, as sums over batches that are divided by the number of patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from flair_baseline.config import Config
from flair_baseline.training.region_losses import NAMES, compute_region_losses


def sum_terms(
    config: Config, logits: Tensor, satellite_logits: Tensor | None, labels: Tensor, weights: Tensor
) -> Tensor:
    """The terms of L, summed over the pixels or patches of a batch, float32 (2 + other losses,)."""
    sums = sum_losses(logits, satellite_logits, labels, weights, config.label_smoothing)
    if not (names := _region_names(config)):
        return sums
    return torch.cat([sums, compute_region_losses(names, logits, labels, weights[0]) * len(labels)])


def count_terms(config: Config, labels: Tensor, weights: Tensor) -> Tensor:
    """By what `sum_terms` is divided: weights of the pixels, numbers of patches; float64, as many."""
    patches = torch.full((len(_region_names(config)),), len(labels), dtype=torch.float64)
    return torch.cat([sum_weights(labels, weights), patches])


def count_kinds(config: Config) -> int:
    """The number of terms."""
    return 2 + len(_region_names(config))


def weigh_terms(config: Config) -> Tensor:
    """The weights of the terms in L, float64, as many; that of the satellite branch is 1."""
    regions = [config.loss[name] for name in _region_names(config)]
    return torch.tensor([config.loss.get("cross_entropy", 0.0), 1.0, *regions], dtype=torch.float64)


def add_terms(config: Config, sums: Tensor, totals: Tensor) -> tuple[float, float]:
    """L_aerial and L_sat from what `sum_terms` and `count_terms` add up to over batches and ranks."""
    terms = sums / totals.clamp(min=1) * weigh_terms(config)
    return float(terms[0] + terms[2:].sum()), float(terms[1])


def _region_names(config: Config) -> list[str]:
    return [name for name in NAMES if config.loss.get(name)]


def class_weights(config: Config) -> Tensor:
    """Class weights of both branches, float32 (2, 13), aerial first."""
    return torch.tensor([config.aerial_class_weights, config.satellite_class_weights], dtype=torch.float32)


def sum_losses(
    logits: Tensor,
    satellite_logits: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
) -> Tensor:
    """Weighted cross-entropies summed over pixels, float32 (2,); the second is 0 without satellite logits.

    logits (B, C, n, n) and satellite_logits (B, C, m, m), whose resolution may be lower than that of the
    labels uint8 (B, H, W); weights float32 (2, C).
    """
    aerial = sum_cross_entropy(logits, labels, weights[0], smoothing)
    if satellite_logits is None:
        return torch.stack([aerial, torch.zeros_like(aerial)])
    return torch.stack([aerial, sum_cross_entropy(satellite_logits, labels, weights[1], smoothing)])


def sum_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Sums of the pixels' weights, by which `sum_losses` is divided: float64 (2,), 0 if no pixel counts."""
    counts = torch.bincount(labels.flatten(), minlength=weights.shape[1])
    return weights.double() @ counts.double()


def sum_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of weight * cross-entropy over all pixels of the labels, to whose size the logits are enlarged.

    The paper enlarges the cropped satellite logits (B, C, 10, 10) to 512 x 512. With nearest interpolation
    all pixels of a cell have its logits: counting their labels gives the same sum at a fraction of the cost.

    With `smoothing` e the label of a pixel is 1 - e its class and e / C each of all C classes, as in torch's
    cross_entropy: a class counts with its own weight, and a pixel whose class has the weight 0 not at all.
    """
    if smoothing > 0:
        return _sum_smoothed(logits, labels, weights, smoothing)
    if logits.shape[-2:] == labels.shape[-2:]:
        # reduction="sum" has no deterministic algorithm on CUDA, Tensor.sum has
        return F.cross_entropy(logits.float(), labels.long(), weights, reduction="none").sum()
    counts = count_labels(labels, logits.shape[1], logits.shape[-1])
    return -(logits.float().log_softmax(1) * counts * weights[:, None, None]).sum()


def _sum_smoothed(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    logits, classes = logits.float(), logits.shape[1]
    if logits.shape[-2:] == labels.shape[-2:]:
        counted = labels.long().masked_fill(weights[labels.long()] == 0, -100)  # torch ignores -100
        return F.cross_entropy(logits, counted, weights, reduction="none", label_smoothing=smoothing).sum()
    counts = count_labels(labels, classes, logits.shape[-1])
    pixels = (counts * (weights > 0)[:, None, None]).sum(1, keepdim=True)
    shares = (1 - smoothing) * counts + smoothing / classes * pixels
    return -(logits.log_softmax(1) * shares * weights[:, None, None]).sum()


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
