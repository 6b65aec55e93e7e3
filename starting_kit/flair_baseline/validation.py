"""Validation: the losses and the leaderboard's mIoU on held-out domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from flair_baseline.config import Config
from flair_baseline.history import Row
from flair_baseline.losses import sum_losses, sum_weights
from flair_baseline.patches import make_loader
from flair_baseline.utt import UTT, choose_labels
from flair_ingestion.dataset import Patch
from flair_scoring import confusion_matrix, iou, mean_iou
from flair_scoring.nomenclature import FLAIR_12


def class_weights(config: Config) -> torch.Tensor:
    """Class weights of both branches, float32 (2, 13), aerial first."""
    return torch.tensor([config.aerial_class_weights, config.satellite_class_weights], dtype=torch.float32)


@torch.inference_mode()
def validate(model: UTT, patches: Sequence[Patch], config: Config) -> Row:
    """Losses, mIoU and IoU per class (NaN if it does not occur) over all patches, and the mIoU per domain.

    The confusion matrices are the scoring program's: `val_miou` is what a leaderboard would show.
    """
    device = next(model.parameters()).device
    weights = class_weights(config)
    sums, totals = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    matrices: dict[str, np.ndarray] = {}
    domains = iter([patch.domain for patch in patches])
    model.eval()
    loader = make_loader(patches, config)
    for batch in tqdm(loader, desc="validation", unit="batch", dynamic_ncols=True, leave=False):
        inputs, labels = batch.to(device)
        scores, satellite_scores = model(*inputs)
        sums += sum_losses(scores, satellite_scores, labels, weights.to(device)).cpu()
        totals += sum_weights(batch.labels, weights)
        predictions = choose_labels(scores, labels.shape[-1]).cpu().numpy()
        for reference, prediction in zip(batch.labels.numpy(), predictions, strict=True):
            domain = next(domains)
            matrix = confusion_matrix(reference, prediction, FLAIR_12.other)
            matrices[domain] = matrices.get(domain, 0) + matrix
    matrix = np.sum(list(matrices.values()), axis=0)
    aerial, satellite = (sums / totals).tolist()
    losses = {"val_loss": aerial + satellite, "val_loss_aerial": aerial, "val_loss_satellite": satellite}
    by_class = dict(zip(FLAIR_12.keys, iou(matrix).tolist(), strict=True))
    by_domain = {f"val_miou_{domain}": mean_iou(matrices[domain]) for domain in sorted(matrices)}
    return losses | {"val_miou": mean_iou(matrix)} | by_class | by_domain
