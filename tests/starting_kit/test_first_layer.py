"""A first layer that was fed other numbers computes from ours what it did, as exactly as the table says."""

from __future__ import annotations

import pytest
import torch
from given_weights import begin, draw_aerial, scale, write
from official_recipe import draw_tensors
from torch import nn

from flair_baseline.config import load_config
from flair_baseline.encoders import make_network
from flair_baseline.initial.pixels import SCALINGS

BOTH = "the first layer and its batch norm are changed so that they compute the same but for the border"
# encoder -> its first layers, with the batch norms behind them, and what the table says
ENCODERS: dict[str, tuple[dict[str, str], str]] = {
    "resnet18": ({"conv1": "bn1"}, BOTH),
    "efficientnet-b0": ({"_conv_stem": "_bn0"}, BOTH),  # pads by a module inside the convolution
    "tu-tf_efficientnet_lite0": ({"model.conv_stem": "model.bn1"}, BOTH),  # pads in its forward method
    "tu-regnetx_002": ({"model.stem.conv": "model.stem.bn"}, BOTH),  # a batch norm with an activation in it
    "mobileone_s0": (
        {"stage0.rbr_conv.0.conv": "stage0.rbr_conv.0.bn", "stage0.rbr_scale.conv": "stage0.rbr_scale.bn"},
        BOTH,
    ),
    "tu-convnext_atto": ({"model.stem_0": ""}, "the first layer is changed so that it computes the same"),
    "mit_b0": ({"patch_embed1.proj": ""}, "is changed so that it computes the same but for the border of a"),
}


def compute(encoder: nn.Module, image: torch.Tensor, layers: dict[str, str]) -> list[torch.Tensor]:
    """What the first layers give, each after the batch norm behind it."""
    modules = dict(encoder.named_modules())
    with torch.inference_mode():
        return [
            modules[norm](modules[name](image)) if norm else modules[name](image)
            for name, norm in layers.items()
        ]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_first_layer_computes_the_same_from_our_pixels(tmp_path, name):
    layers, sentence = ENCODERS[name]
    config = load_config("unet", [f"encoder={name}", "encoder_weights=null", "decoder_channels=[8,8,8,8,8]"])
    reference = make_network(config)
    reference.load_state_dict(
        draw_tensors({key: list(one.shape) for key, one in reference.state_dict().items()})
    )
    path = write(tmp_path, reference.eval().state_dict())
    model, outcome = begin(config, path, pixels="0-1")
    aerial = draw_aerial()
    means, stds = zip(*(SCALINGS["0-1"][band] for band in "RVBIE"), strict=True)
    expected = compute(reference.unet.encoder, scale(aerial, means, stds), layers)
    found = compute(model.unet.encoder, scale(aerial), layers)
    for one, other in zip(found, expected, strict=True):
        difference = (one - other).abs() / other.abs().max()
        assert float(difference[..., 3:-3, 3:-3].max()) < 1e-5
    (note,) = [note for note in outcome.notes if note.startswith("pixels")]
    assert sentence in note
    assert ("border" in note) == ("border" in sentence)


def test_a_layer_that_standardises_its_weights_is_told(tmp_path):
    config = load_config(
        "unet", ["encoder=tu-nf_resnet26", "encoder_weights=null", "decoder_channels=[8,8,8,8,8]"]
    )
    path = write(tmp_path, make_network(config).state_dict())
    _, outcome = begin(config, path, pixels="0-1")
    assert any("standardises its weights and computes other numbers" in note for note in outcome.notes)


def test_a_batch_norm_that_stands_elsewhere_takes_no_shift(tmp_path):
    """Its network reads the output of its first layer before that batch norm, too."""
    config = load_config(
        "unet", ["encoder=tu-resnetv2_18", "encoder_weights=null", "decoder_channels=[8,8,8,8,8]"]
    )
    path = write(tmp_path, make_network(config).state_dict())
    _, outcome = begin(config, path, pixels="0-1")
    assert list(outcome.adapted) == ["unet.encoder.model.stem_conv.weight"]
    assert any("has no bias for the shifts, which are left out" in note for note in outcome.notes)
