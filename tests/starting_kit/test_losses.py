import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from flair_baseline.config import Config
from flair_baseline.training.losses import (
    add_terms,
    class_weights,
    count_kinds,
    count_terms,
    sum_losses,
    sum_terms,
    sum_weights,
)
from flair_baseline.training.region_losses import NAMES, compute_region_losses


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


SMOOTHING = 0.2


@pytest.mark.parametrize("branch", [0, 1])
def test_label_smoothing_is_torchs_over_the_pixels_that_count(branch: int):
    weights = class_weights(Config()) * torch.rand(2, 13, generator=torch.Generator().manual_seed(0))
    *both, labels = draw(2)
    stretched = F.interpolate(both[branch], size=(64, 64), mode="nearest")
    counted = (weights[branch] > 0)[labels.long()]
    targets = labels.long().masked_fill(~counted, -100)
    expected = F.cross_entropy(stretched, targets, weights[branch], label_smoothing=SMOOTHING)
    losses = sum_losses(*both, labels, weights, SMOOTHING) / sum_weights(labels, weights)
    assert float(losses[branch]) == pytest.approx(float(expected), rel=1e-5)
    plain = sum_losses(*both, labels, weights) / sum_weights(labels, weights)
    assert float(losses[branch]) != pytest.approx(float(plain[branch]), rel=1e-3)


def test_smoothed_sums_of_parts_are_the_sums_of_the_whole():
    weights = class_weights(Config())
    logits, satellite_logits, labels = draw(3)
    whole = sum_losses(logits, satellite_logits, labels, weights, SMOOTHING)
    parts = [
        sum_losses(*(one[i : i + 1] for one in (logits, satellite_logits, labels)), weights, SMOOTHING)
        for i in range(3)
    ]
    torch.testing.assert_close(sum(parts), whole)
    other = torch.full((3, 64, 64), 12, dtype=torch.uint8)
    assert sum_losses(logits, satellite_logits, other, weights, SMOOTHING).tolist() == [0, 0]


def make_targets(labels: torch.Tensor) -> torch.Tensor:
    """Labels for smp, where 99 stands for *other*, which does not count."""
    return labels.long().masked_fill(labels == 12, 99)


def test_region_losses_are_smps():
    weights = class_weights(Config())[0]
    logits, _, labels = draw(2)
    targets = make_targets(labels)
    dice, lovasz, focal = compute_region_losses(NAMES, logits, labels, weights)
    expected = smp.losses.DiceLoss("multiclass", classes=list(range(12)), ignore_index=99)(logits, targets)
    torch.testing.assert_close(dice, expected)
    expected = smp.losses.LovaszLoss("multiclass", ignore_index=99)(logits, targets)
    torch.testing.assert_close(lovasz, expected)
    # one class after the other, because versions of smp add up the classes in different ways
    classes = [
        smp.losses.FocalLoss("multiclass", ignore_index=99)(
            logits[:, [index]], torch.where(targets == 99, 99, (targets != index).long())
        )
        for index in range(12)
    ]
    torch.testing.assert_close(focal, torch.stack(classes).mean())


def test_class_weights_weigh_the_classes_of_focal_and_leave_out_those_of_weight_0():
    weights = torch.tensor([3.0, 0, 1, *[0.5] * 9, 0])
    logits, _, labels = draw(1)
    pixels = (weights > 0)[labels.long()][0]
    expected = 0.0
    for index, weight in enumerate(weights.tolist()):
        p = torch.sigmoid(logits[0, index].double())[pixels]
        p = torch.where(labels[0][pixels] == index, p, 1 - p)
        expected += weight * float((-((1 - p) ** 2) * p.log()).mean())
    (focal,) = compute_region_losses(["focal"], logits, labels, weights)
    assert float(focal) == pytest.approx(expected / float(weights.sum()), rel=1e-5)
    for name in ("dice", "lovasz"):
        loss = compute_region_losses([name], logits, labels, weights)
        other = labels.clone()
        other[labels == 1] = 12  # as if nobody had annotated class 1
        torch.testing.assert_close(compute_region_losses([name], logits, other, weights), loss)
        heavier = weights * 2
        torch.testing.assert_close(compute_region_losses([name], logits, labels, heavier), loss)


def test_region_losses_enlarge_the_logits_and_bear_labels_that_do_not_count():
    weights = class_weights(Config())[0]
    logits, _, labels = draw(2)
    small = logits[:, :, ::4, ::4].clone().requires_grad_()
    large = small.detach().repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = compute_region_losses(NAMES, large, labels, weights)
    torch.testing.assert_close(compute_region_losses(NAMES, small, labels, weights), expected)
    nothing = compute_region_losses(NAMES, small, torch.full_like(labels, 12), weights)
    assert nothing.tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad(nothing.sum(), small)
    assert float(gradient.abs().max()) == 0


def test_the_loss_is_the_weighted_sum_of_its_terms():
    loss = {"dice": 0.5, "cross_entropy": 2.0, "focal": 3.0, "lovasz": 0.0}
    config = Config(loss=loss, label_smoothing=SMOOTHING)
    weights = class_weights(config)
    batches = [draw(2), draw(3)]
    sums = sum(sum_terms(config, *batch, weights) for batch in batches)
    totals = sum(count_terms(config, batch[2], weights) for batch in batches)
    assert sums.shape == totals.shape == (count_kinds(config),) == (4,)
    aerial, satellite = add_terms(config, sums, totals)
    entropies = sum(sum_losses(*batch, weights, SMOOTHING) for batch in batches)
    entropies = entropies / sum(sum_weights(batch[2], weights) for batch in batches)
    regions = sum(
        len(batch[2]) * compute_region_losses(["dice", "focal"], batch[0], batch[2], weights[0])
        for batch in batches
    )
    expected = 2 * float(entropies[0]) + float(regions @ torch.tensor([0.5, 3.0])) / 5
    assert aerial == pytest.approx(expected, rel=1e-6)
    assert satellite == pytest.approx(float(entropies[1]))
