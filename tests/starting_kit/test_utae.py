import math

import pytest
import torch
from torch import nn

from flair_baseline.model import ltae
from flair_baseline.model.ltae import encode_days, masked_group_norm
from flair_baseline.model.utae import UTAE, reflect, weigh_dates

DATES = 5


@pytest.fixture(scope="module")
def utae() -> UTAE:
    torch.manual_seed(0)
    model = UTAE().eval()
    for module in model.modules():  # running statistics as after training
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def series() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    days = torch.tensor([[3.0, 80, 160, 200, 330], [10, 11, 12, 250, 365]])
    return (
        torch.rand(2, DATES, 10, 16, 16, generator=generator),
        days,
        torch.zeros(2, DATES, dtype=torch.bool),
    )


def run(utae: UTAE, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        embedding = utae(*inputs)
        return torch.cat([embedding, utae.classify(embedding)], dim=1)


def test_the_deterministic_reflection_is_torchs():
    pixels = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    weights = torch.rand(2, 3, 7, 6, dtype=torch.float64)
    results = []
    for deterministic in (False, True):
        frames = pixels.clone().requires_grad_()
        torch.use_deterministic_algorithms(deterministic)
        try:
            padded = reflect(frames)
            (padded * weights).sum().backward()
        finally:
            torch.use_deterministic_algorithms(False)
        results.append((padded.grad_fn.name(), padded.detach(), frames.grad))
    (plain, *expected), (other, *found) = results
    assert plain.startswith("ReflectionPad2D")
    assert other.startswith("Cat")
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_order_of_dates_does_not_matter(utae, series):
    frames, days, padding_mask = series
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = run(utae, frames[:, order], days[:, order], padding_mask)
    assert largest_difference(shuffled, run(utae, *series)) < 1e-5


def test_positions_of_dates_matter(utae, series):
    frames, days, padding_mask = series
    assert largest_difference(run(utae, frames, days.flip(1), padding_mask), run(utae, *series)) > 1e-3


@pytest.mark.parametrize("filler", [0.0, 1e4])
def test_padding_changes_nothing(utae, series, filler):
    frames, days, padding_mask = series
    frames = torch.cat(
        [torch.full_like(frames[:, :2], filler), frames, torch.full_like(frames, filler)], dim=1
    )
    days = torch.cat([days[:, :2], days, days], dim=1)
    padding_mask = torch.cat([~padding_mask[:, :2], padding_mask, ~padding_mask], dim=1)
    assert largest_difference(run(utae, frames, days, padding_mask), run(utae, *series)) < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_padding_in_the_norm_as_in_the_original_would_change_embeddings_by_percents(seed, monkeypatch):
    torch.manual_seed(seed)
    model = UTAE().eval()
    frames, days = 0.4 * torch.rand(1, 12, 10, 40, 40), 30.0 * torch.arange(12)[None]
    padded = torch.cat([frames, torch.zeros_like(frames)], dim=1), torch.cat([days, 0 * days], dim=1)
    padding_mask = torch.arange(24)[None] >= 12
    alone = run(model, frames, days)[:, :64]
    assert largest_difference(run(model, *padded, padding_mask)[:, :64], alone) < 1e-5

    def norm_with_padding(norm, series, _):  # padding's features are zeros there
        return norm(series.transpose(1, 2)).transpose(1, 2)

    monkeypatch.setattr(ltae, "masked_group_norm", norm_with_padding)
    assert 0.02 < largest_difference(run(model, *padded, padding_mask)[:, :64], alone) < 0.1


def test_without_padding_no_mask_is_needed(utae, series):
    frames, days, _ = series
    assert largest_difference(run(utae, frames, days), run(utae, *series)) < 1e-5


def test_items_of_a_batch_do_not_see_each_other(utae, series):
    frames, days, padding_mask = series
    padding_mask = padding_mask.clone()
    padding_mask[1, 2:] = True
    together = run(utae, frames, days, padding_mask)
    alone = run(utae, frames[1:, :2], days[1:, :2], padding_mask[1:, :2])
    assert largest_difference(together[1:], alone) < 1e-5


def test_series_norm_is_group_norm_of_the_dates_that_are_present():
    torch.manual_seed(2)
    norm = nn.GroupNorm(4, 12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    series, padding_mask = torch.randn(3, 6, 12), torch.zeros(3, 6, dtype=torch.bool)
    padding_mask[:, 4:] = True
    expected = norm(series[:, :4].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(masked_group_norm(norm, series, padding_mask)[:, :4], expected)


def test_days_are_encoded_by_the_formula_of_the_paper():
    days = torch.tensor([[0.0, 45.5, 365]])
    for code, day in zip(encode_days(days, 16)[0], days[0].tolist(), strict=True):
        for index in range(16):
            angle = day / 1000 ** (2 * (index // 2) / 16)
            assert float(code[index]) == pytest.approx((math.sin, math.cos)[index % 2](angle), abs=1e-5)


def test_attention_groups_weigh_their_own_channels():
    torch.manual_seed(3)
    frames, attention = torch.randn(2, 3, 8, 6, 6), torch.rand(2, 3, 4, 6, 6)
    summed = weigh_dates(frames, attention)
    for channel in range(8):
        expected = sum(frames[:, date, channel] * attention[:, date, channel // 2] for date in range(3))
        torch.testing.assert_close(summed[:, channel], expected)
