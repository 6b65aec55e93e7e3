"""Validation: the losses and the leaderboard's mIoU on held-out domains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from tqdm import tqdm

from flair_baseline.config import Config
from flair_baseline.model.utt import UTT, choose_labels
from flair_baseline.training.distributed import rank, share_of_rank, sum_over_ranks
from flair_baseline.training.history import Row
from flair_baseline.training.loader import make_loader
from flair_baseline.training.losses import sum_losses, sum_weights
from flair_ingestion.dataset import Patch
from flair_scoring import confusion_matrix, iou, mean_iou
from flair_scoring.nomenclature import FLAIR_12


def class_weights(config: Config) -> torch.Tensor:
    """Class weights of both branches, float32 (2, 13), aerial first."""
    return torch.tensor([config.aerial_class_weights, config.satellite_class_weights], dtype=torch.float32)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Inside, networks compute in bfloat16 where that is safe, if `precision` is bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.inference_mode()
def validate(model: UTT, patches: Sequence[Patch], config: Config, satellite_classes: bool = False) -> Row:
    """Losses, mIoU and IoU per class (NaN if it does not occur) over all patches, and the mIoU per domain.

    The confusion matrices are the scoring program's: `val_miou` is what a leaderboard would show. With a
    satellite branch `val_miou_satellite` is that of its own scores, and with `satellite_classes` so are
    iou_<class>_satellite. Each rank reads its share of the patches; all get the result.
    """
    device = next(model.parameters()).device
    weights = class_weights(config)
    sums, totals = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    places = {domain: place for place, domain in enumerate(sorted({patch.domain for patch in patches}))}
    matrices = np.zeros((len(places), *FLAIR_12.matrix_shape), np.int64)
    satellite_matrix = np.zeros(FLAIR_12.matrix_shape, np.int64)
    own = share_of_rank(patches)
    domains = iter([patch.domain for patch in own])
    model.eval()
    loader = make_loader(own, config)
    hidden = None if rank() == 0 else True  # None: shown on terminals only
    for batch in tqdm(loader, "validation", unit="batch", dynamic_ncols=True, leave=False, disable=hidden):
        inputs, labels = batch.to(device)
        with autocast(device, config.precision):
            scores, satellite_scores = model(*inputs)
        sums += sum_losses(scores, satellite_scores, labels, weights.to(device)).cpu()
        totals += sum_weights(batch.labels, weights)
        for reference, prediction in zip(batch.labels.numpy(), _predict(scores, labels), strict=True):
            matrices[places[next(domains)]] += confusion_matrix(reference, prediction)
        if satellite_scores is not None:
            for reference, prediction in zip(
                batch.labels.numpy(), _predict(satellite_scores, labels), strict=True
            ):
                satellite_matrix += confusion_matrix(reference, prediction)
    for part in (sums, totals, torch.from_numpy(matrices), torch.from_numpy(satellite_matrix)):
        sum_over_ranks(part)
    matrix = matrices.sum(axis=0)
    aerial, satellite = (sums / totals.clamp(min=1)).tolist()
    losses = {"val_loss": aerial + satellite, "val_loss_aerial": aerial, "val_loss_satellite": satellite}
    by_class = dict(zip(FLAIR_12.keys, iou(matrix).tolist(), strict=True))
    by_domain = {f"val_miou_{domain}": mean_iou(matrices[place]) for domain, place in places.items()}
    mious = {"val_miou": mean_iou(matrix)}
    if config.satellite:
        mious["val_miou_satellite"] = mean_iou(satellite_matrix)
        if satellite_classes:
            keys = [f"{key}_satellite" for key in FLAIR_12.keys]
            by_class |= dict(zip(keys, iou(satellite_matrix).tolist(), strict=True))
    return losses | mious | by_class | by_domain


def _predict(scores: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """The labels that `scores` stand for, in the resolution of the reference."""
    return choose_labels(scores, labels.shape[-1]).cpu().numpy()
