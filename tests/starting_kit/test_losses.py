import numpy as np
import torch
from torch.nn import functional as F

from flair_baseline.config import Config
from flair_baseline.training.losses import class_weights, sum_losses, sum_weights


def draw(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, 13, 64, 64, generator=generator)
    satellite_logits = torch.randn(batch, 13, 10, 10, generator=generator)
    return (
        logits,
        satellite_logits,
        torch.randint(0, 13, (batch, 64, 64), dtype=torch.uint8, generator=generator),
    )


def brute_force(logits: np.ndarray, labels: np.ndarray, weights: list[float]) -> tuple[float, float]:
    """Sum of weighted cross-entropies and of weights, pixel by pixel: logits (C, H, W), labels (H, W)."""
    loss = total = 0.0
    for row, column in np.ndindex(labels.shape):
        pixel, label = logits[:, row, column].astype(float), labels[row, column]
        loss -= weights[label] * (pixel[label] - np.log(np.exp(pixel).sum()))
        total += weights[label]
    return loss, total


def test_losses_are_the_papers_formula():
    weights = torch.rand(2, 13, generator=torch.Generator().manual_seed(0))
    logits, satellite_logits, labels = draw(1)
    rows = np.arange(64) * 10 // 64  # nearest interpolation of 10 cells to 64 pixels
    stretched = satellite_logits[0].numpy()[:, rows][:, :, rows]
    losses, totals = sum_losses(logits, satellite_logits, labels, weights), sum_weights(labels, weights)
    for branch, branch_logits in enumerate((logits[0].numpy(), stretched)):
        loss, total = brute_force(branch_logits, labels[0].numpy(), weights[branch].tolist())
        np.testing.assert_allclose([losses[branch], totals[branch]], [loss, total], rtol=1e-5)


def test_satellite_loss_equals_logits_stretched_to_a_real_patch():
    weights = class_weights(Config())
    satellite_logits = draw(2)[1].requires_grad_()
    labels = torch.randint(
        0, 13, (2, 512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    at_cells = sum_losses(torch.zeros(2, 13, 512, 512), satellite_logits, labels, weights)[1]
    stretched = F.interpolate(satellite_logits, size=(512, 512), mode="nearest")
    expected = F.cross_entropy(stretched, labels.long(), weights[1], reduction="sum")
    torch.testing.assert_close(at_cells, expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(at_cells, satellite_logits)
    (expected_gradient,) = torch.autograd.grad(expected, satellite_logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-2)


def test_sums_of_parts_are_the_sums_of_the_whole():
    weights = class_weights(Config())
    logits, satellite_logits, labels = draw(3)
    whole = sum_losses(logits, satellite_logits, labels, weights)
    parts = sum(
        sum_losses(logits[i : i + 1], satellite_logits[i : i + 1], labels[i : i + 1], weights)
        for i in range(3)
    )
    torch.testing.assert_close(parts, whole)
    totals = sum(sum_weights(labels[i : i + 1], weights) for i in range(3))
    torch.testing.assert_close(totals, sum_weights(labels, weights))


def test_other_never_counts_and_plowed_land_only_from_the_air():
    weights = class_weights(Config())
    logits, satellite_logits, _ = draw(1)
    plowed, other = (torch.full((1, 64, 64), index, dtype=torch.uint8) for index in (11, 12))
    assert sum_losses(logits, satellite_logits, other, weights).tolist() == [0, 0]
    aerial, satellite = sum_losses(logits, satellite_logits, plowed, weights).tolist()
    assert aerial > 0
    assert satellite == 0
    assert sum_weights(plowed, weights).tolist() == [64 * 64, 0]
