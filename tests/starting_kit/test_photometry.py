import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from flair_baseline.config import load_config
from flair_baseline.samples.loader import PatchDataset
from flair_baseline.samples.photometry import Light, change_light, draw_light
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import UsageError

UNTURNED = ["augmentation=false", "superpatch_size=16", "encoder_weights=null"]


def draw_patch(low: int = 0, high: int = 256) -> torch.Tensor:
    """Cells of 4 x 4 pixels: their means are those of every fourth row and column."""
    cells = np.random.default_rng(1).integers(low, high, (5, 128, 128), dtype=np.uint8)
    return torch.from_numpy(cells.repeat(4, 1).repeat(4, 2))


def change(image: torch.Tensor, brightness: float = 1, contrast: float = 1, hue: float = 0) -> torch.Tensor:
    result = image.clone()
    change_light(result, Light(brightness, contrast, hue))
    return result


def to_bytes(image: torch.Tensor) -> torch.Tensor:
    return (image * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_brightness_and_contrast_are_those_of_torchvision(factor: float) -> None:
    image = draw_patch()
    for band in range(4):
        one = image[band : band + 1].double() / 255  # torchvision takes the mean of a single band as it is
        brighter = to_bytes(reference.adjust_brightness(one, factor))
        steeper = to_bytes(reference.adjust_contrast(one, factor))
        for ours, expected in (
            (change(image, brightness=factor), brighter),
            (change(image, contrast=factor), steeper),
        ):
            assert (ours[band].int() - expected[0].int()).abs().max() <= 1  # a half may be rounded either way
            assert (ours[band] != expected[0]).float().mean() < 0.05
    assert torch.equal(change(image, factor, factor, 0.05)[4], image[4])


@pytest.mark.parametrize("hue", [-0.05, 0.02, 0.05, 1 / 3])
def test_the_hue_turns_in_the_plane_across_grey(hue: float) -> None:
    """As complex numbers of the colour circle, red at 0 and green at a third: a turn multiplies them."""
    image = draw_patch(70, 180)  # nothing is cut off
    turned = change(image, hue=hue)
    circle = np.exp(2j * math.pi * np.arange(3) / 3)
    before, after = (np.tensordot(circle, one[:3].double().numpy(), 1) for one in (image, turned))
    assert np.abs(after - before * np.exp(2j * math.pi * hue)).max() < 1.1  # two roundings
    assert (turned[:3].double().mean(0) - image[:3].double().mean(0)).abs().max() < 0.51
    assert torch.equal(turned[3:], image[3:])


@pytest.mark.parametrize("hue", [1 / 3, -1 / 3])
def test_a_third_of_the_circle_is_that_of_torchvision(hue: float) -> None:
    """Torchvision turns on a hexagon, not a circle; a third of either makes the bands change places."""
    image = draw_patch()
    expected = to_bytes(reference.adjust_hue(image[:3].double() / 255, hue))
    assert (change(image, hue=hue)[:3].int() - expected.int()).abs().max() <= 1


def test_contrast_comes_first_then_hue_then_brightness() -> None:
    image = draw_patch(100, 150)
    steps = change(change(change(image, contrast=1.2), hue=0.04), brightness=0.8)
    assert (steps.int() - change(image, 0.8, 1.2, 0.04).int()).abs().max() <= 2


def test_light_that_does_not_change_leaves_every_byte() -> None:
    image = draw_patch()
    assert torch.equal(change(image), image)


def test_draws_fill_their_ranges() -> None:
    generator = np.random.default_rng(1)
    for strength in (1.0, 0.5):
        draws = np.array([draw_light(generator, strength) for _ in range(2000)])
        assert draws.min(0) == pytest.approx(
            [1 - 0.3 * strength, 1 - 0.3 * strength, -0.05 * strength], abs=0.01
        )
        assert draws.max(0) == pytest.approx(
            [1 + 0.3 * strength, 1 + 0.3 * strength, 0.05 * strength], abs=0.01
        )
        assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.1


def test_seed_epoch_and_patch_decide_the_light_of_training_patches_only(flair_tree: Path) -> None:
    patches = index_patches(flair_tree, "train", labels=True)
    config = load_config("utt_best", [*UNTURNED, "photometric=0.5"])
    plain = load_config("utt_best", UNTURNED)
    held_out = PatchDataset(patches, config)[1]
    assert torch.equal(held_out.aerial, PatchDataset(patches, plain)[1].aerial)
    lit, same, other = (PatchDataset(patches, config, epoch)[1] for epoch in (3, 3, 4))
    assert torch.equal(lit.aerial, same.aerial)
    assert not torch.equal(lit.aerial, other.aerial)
    assert not torch.equal(lit.aerial, held_out.aerial)
    assert torch.equal(lit.aerial[4], held_out.aerial[4])
    assert torch.equal(lit.labels, held_out.labels)
    assert torch.equal(lit.series, held_out.series)
    turned = load_config("utt_best", [*UNTURNED[1:], "photometric=0.5"])
    both, turn = (PatchDataset(patches, one, 3)[1] for one in (turned, load_config("utt_best", UNTURNED[1:])))
    assert torch.equal(both.labels, turn.labels)  # the light takes no draw from the turns
    assert sorted(both.aerial.flatten().tolist()) == sorted(lit.aerial.flatten().tolist())


@pytest.mark.parametrize("strength", ["-0.1", "1.01"])
def test_strengths_beyond_the_range_are_refused(strength: str) -> None:
    with pytest.raises(UsageError, match=r"photometric: \S+ is not from 0 \(off\) to 1"):
        load_config("unet", [f"photometric={strength}"])
