"""Validation: the losses and the leaderboard's mIoU on held-out domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from flair_baseline.config import Config
from flair_baseline.machines.distributed import sum_over_ranks
from flair_baseline.machines.machine import autocast
from flair_baseline.model.utt import UTT, choose_labels
from flair_baseline.samples.batches import share_of_rank
from flair_baseline.samples.loader import make_loader, show_progress
from flair_baseline.training.history import Row
from flair_baseline.training.losses import add_terms, class_weights, count_kinds, count_terms, sum_terms
from flair_ingestion.dataset import Patch
from flair_scoring import confusion_matrix, iou, mean_iou
from flair_scoring.nomenclature import FLAIR_12


@torch.inference_mode()
def validate(model: UTT, patches: Sequence[Patch], config: Config, satellite_classes: bool = False) -> Row:
    """Losses, mIoU and IoU per class (NaN if it does not occur) over all patches, and the mIoU per domain.

    The confusion matrices are the scoring program's: `val_miou` is what a leaderboard would show. A model
    with a satellite branch also gets `val_miou_satellite`, the mIoU of that branch's own labels, and with
    `satellite_classes` the keys iou_<class>_satellite. Each rank reads its share of the patches; all ranks
    return the metrics of all patches. The losses are those that training minimises, with label smoothing.
    """
    device = next(model.parameters()).device
    weights = class_weights(config)
    own = share_of_rank(patches)
    domains = sorted({patch.domain for patch in patches})
    sums, totals = torch.zeros(2, count_kinds(config), dtype=torch.float64).unbind()
    matrices = np.zeros((len(domains), *FLAIR_12.matrix_shape), np.int64)
    satellite_matrix = np.zeros(FLAIR_12.matrix_shape, np.int64)
    model.eval()
    read = 0
    for batch in show_progress(make_loader(own, config), "validation"):
        inputs, labels = batch.to(device)
        with autocast(device, config.precision):
            logits, satellite_logits = model(*inputs)
        sums += sum_terms(config, logits, satellite_logits, labels, weights.to(device)).cpu()
        totals += count_terms(config, batch.labels, weights)
        counts = _count(batch.labels, logits)
        for patch, matrix in zip(own[read : read + len(counts)], counts, strict=True):
            matrices[domains.index(patch.domain)] += matrix
        if satellite_logits is not None:
            satellite_matrix += np.sum(_count(batch.labels, satellite_logits), axis=0)
        read += len(counts)
    for part in (sums, totals, torch.from_numpy(matrices), torch.from_numpy(satellite_matrix)):
        sum_over_ranks(part)
    matrix = matrices.sum(axis=0)
    aerial, satellite = add_terms(config, sums, totals)
    losses = {"val_loss": aerial + satellite, "val_loss_aerial": aerial, "val_loss_satellite": satellite}
    by_class = dict(zip(FLAIR_12.keys, iou(matrix).tolist(), strict=True))
    by_domain = {f"val_miou_{domain}": mean_iou(matrices[index]) for index, domain in enumerate(domains)}
    mious = {"val_miou": mean_iou(matrix)}
    if config.satellite:
        mious["val_miou_satellite"] = mean_iou(satellite_matrix)
        if satellite_classes:
            keys = [f"{key}_satellite" for key in FLAIR_12.keys]
            by_class |= dict(zip(keys, iou(satellite_matrix).tolist(), strict=True))
    return losses | mious | by_class | by_domain


def _count(labels: torch.Tensor, logits: torch.Tensor) -> list[np.ndarray]:
    """The confusion matrix of each patch of a batch: labels (B, H, W) on the CPU, logits (B, C, n, n)."""
    predictions = choose_labels(logits, labels.shape[-1]).cpu().numpy()
    pairs = zip(labels.numpy(), predictions, strict=True)
    return [confusion_matrix(reference, prediction) for reference, prediction in pairs]
