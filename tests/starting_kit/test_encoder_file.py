"""encoder_weights from a local file give what smp and timm give with the same weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from given_weights import under, write
from official_recipe import draw_tensors
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import Tensor, nn

from flair_baseline.config import Config, load_config
from flair_baseline.encoders import make_network, require_encoder
from flair_scoring.base.errors import DataError, UsageError


def config(encoder: str, weights: Path | str, channels: str = "RVBIE") -> Config:
    settings = [f"encoder={encoder}", f"channels={channels}", "decoder_channels=[8, 8, 8, 8, 8]"]
    return replace(load_config("unet", settings), encoder_weights=str(weights))


def drawn(model: nn.Module) -> dict[str, Tensor]:
    return draw_tensors({name: list(one.shape) for name, one in model.state_dict().items()})


def require_same(found: nn.Module, expected: nn.Module) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", ["RVB", "RVBI", "RVBIE"])
@pytest.mark.parametrize("name", ["resnet18.pth", "resnet18.safetensors"])
def test_weights_as_torchvision_and_smp_name_them(tmp_path, name, channels):
    reference = smp.encoders.get_encoder("resnet18", in_channels=3, weights=None)
    tensors = drawn(reference) | {"fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}
    made = config("resnet18", write(tmp_path, tensors, name), channels)
    require_encoder(made)
    model = make_network(made)
    reference.load_state_dict(tensors)
    patch_first_conv(reference, len(channels), pretrained=True)
    require_same(model.unet.encoder, reference)


def test_half_precision_becomes_float32_before_bands_are_repeated(tmp_path):
    tensors = {name: one.half() for name, one in resnet("resnet18").items()}
    model = make_network(config("resnet18", write(tmp_path, tensors)))
    expected = tensors["conv1.weight"].float()[:, [0, 1, 2, 0, 1]] * (3 / 5)
    assert torch.equal(model.unet.encoder.conv1.weight, expected)


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "convnext_atto", "resnet18", "efficientnet_lite0", "repvgg_a0"]
)
def test_weights_as_timm_names_them(tmp_path, name):
    """timm itself loads the file of a whole classifier into the network that smp wraps."""
    path = write(tmp_path, drawn(timm.create_model(name)), f"{name}.safetensors")
    expected = timm.create_model(
        name, in_chans=5, features_only=True, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    )
    model = make_network(config(f"tu-{name}", path))
    require_same(model.unet.encoder.model, expected)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_position_embeddings_are_fitted_to_the_images_as_by_timm(tmp_path, name):
    path = write(tmp_path, drawn(timm.create_model(name)), f"{name}.safetensors")
    expected = timm.create_model(
        name, in_chans=5, img_size=512, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    ).state_dict()
    found = make_network(replace(config(f"tu-{name}", path), decoder="dpt")).unet.encoder.model.state_dict()
    assert "pos_embed" in found
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        under("module."),
        under("encoder."),
        under("net.backbone."),
        lambda tensors: {"state_dict": under("model.encoder.")(tensors)},
        lambda tensors: under("encoder.")(tensors) | {"decoder.weight": torch.ones(1)},
        lambda tensors: {name: one for name, one in tensors.items() if "num_batches" not in name},
    ],
)
def test_wrappers_are_taken_off(tmp_path, wrap):
    reference = smp.encoders.get_encoder("resnet18", in_channels=5, weights=None)
    tensors = {name: one for name, one in drawn(reference).items() if "num_batches" not in name}
    model = make_network(config("resnet18", write(tmp_path, wrap(tensors))))
    reference.load_state_dict(tensors, strict=False)
    require_same(model.unet.encoder, reference)


def resnet(name: str, bands: int = 3) -> dict[str, Tensor]:
    return drawn(smp.encoders.get_encoder(name, in_channels=bands, weights=None))


def nan() -> dict[str, Tensor]:
    tensors = resnet("resnet18")
    tensors["bn1.weight"][2] = math.nan
    return tensors


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: resnet("resnet34"), "not the weights of encoder=resnet18, but of resnet34"),
        (lambda: resnet("resnet50"), "not the weights of encoder=resnet18, but of resnet50"),
        (lambda: resnet("resnet18", bands=4), "its first layer reads 4 bands; expected 3 or 5"),
        (lambda: {"a.weight": torch.ones(1)}, "holds no weights of encoder=resnet18; expected its tensors"),
        (
            lambda: under("student.backbone.")(resnet("resnet18")) | under("teacher.")(resnet("resnet18")),
            "holds 2 networks, 'student.backbone.' and 'teacher.'; save only one of them",
        ),
        (nan, "weights that cannot be used (1 problem):\n  - bn1.weight: holds NaN or infinity"),
        (
            lambda: {name: (one * 100).to(torch.int8) for name, one in resnet("resnet18").items()},
            "weights that cannot be used (100 problems):\n  - conv1.weight: holds int8 numbers; expected",
        ),
        (lambda: {"state_dict": {}}, "holds no tensors; expected the weights of the encoder resnet18"),
        (lambda: nn.Linear(2, 2), "holds objects of torch.nn.modules.linear.Linear"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a git-lfs pointer"),
    ],
)
def test_a_wrong_file_is_named_for_what_it_is(tmp_path, content, sentence):
    path = tmp_path / "encoder.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content(), path)
    with pytest.raises(DataError) as refusal:
        make_network(config("resnet18", path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert sentence in str(refusal.value)


def test_a_file_that_is_absent_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file; expected one with the weights of the encoder"):
        require_encoder(config("resnet18", tmp_path / "absent.pth"))
