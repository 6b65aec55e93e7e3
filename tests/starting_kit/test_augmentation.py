import numpy as np
import pytest
import torch

from flair_baseline.samples.augmentation import draw_transform, transform

TURNS = [(v, h, k) for v in (False, True) for h in (False, True) for k in range(4)]


@pytest.mark.parametrize("turn", TURNS)
def test_rasters_of_every_resolution_stay_aligned(turn):
    coarse = torch.randint(0, 255, (3, 2, 8, 8), dtype=torch.uint8)
    fine = coarse.repeat_interleave(5, -2).repeat_interleave(5, -1)
    turned = transform(coarse, *turn)
    assert torch.equal(transform(fine, *turn), turned.repeat_interleave(5, -2).repeat_interleave(5, -1))
    centre = (..., slice(12, 28), slice(12, 28))
    assert torch.equal(transform(fine[centre], *turn), transform(fine, *turn)[centre])


@pytest.mark.parametrize("turn", TURNS)
def test_first_come_the_flips_and_then_the_quarter_turns(turn):
    vertical, horizontal, turns = turn
    image = np.arange(60).reshape(3, 4, 5)
    flipped = image[:, ::-1] if vertical else image
    flipped = flipped[:, :, ::-1] if horizontal else flipped
    expected = np.rot90(flipped, turns, axes=(1, 2))
    assert np.array_equal(transform(torch.from_numpy(image), *turn).numpy(), expected)


def test_the_transforms_are_the_eight_of_the_square():
    image = np.arange(9).reshape(3, 3)
    found = {transform(torch.from_numpy(image), *turn).numpy().tobytes() for turn in TURNS}
    expected = {
        np.ascontiguousarray(np.rot90(flipped, k)).tobytes() for flipped in (image, image.T) for k in range(4)
    }
    assert found == expected


def test_each_operation_is_applied_half_of_the_time():
    generator = np.random.default_rng(1)
    draws = np.array([draw_transform(generator) for _ in range(4000)])
    assert draws[:, :2].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.04)
    shares = np.bincount(draws[:, 2], minlength=4) / len(draws)
    assert shares == pytest.approx([0.625, 0.125, 0.125, 0.125], abs=0.04)
