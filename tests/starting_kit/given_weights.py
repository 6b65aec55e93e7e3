"""Weights of others for tests: random tensors with the names and shapes of theirs, and their files."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from official_recipe import draw_tensors
from safetensors.torch import save_file
from torch import Tensor, nn

from flair_baseline.config import Config, load_config
from flair_baseline.encoders import make_network
from flair_baseline.initial.given import Start, read_start
from flair_baseline.initial.start import start_from
from flair_baseline.initial.table import Outcome
from flair_baseline.model.aerial import AERIAL_MEANS, AERIAL_STDS
from flair_baseline.model.utt import UTT

NAMES: dict[str, dict[str, list[int]]] = json.loads(
    lzma.decompress((Path(__file__).parent / "given_names.json.xz").read_bytes())
)
CHANNELS = (8, 8, 8, 8, 8)
SMALL = ("encoder=tu-mobilenetv3_small_050", "encoder_weights=null", f"decoder_channels={list(CHANNELS)}")


def small(name: str = "unet", *settings: str) -> Config:
    return load_config(name, [*SMALL, *settings])


def draw_smp(classes: int = 13, bands: int = 5, encoder: str = "tu-mobilenetv3_small_050") -> nn.Module:
    """A U-Net of smp with weights as after training, in eval mode."""
    model = smp.Unet(
        encoder, encoder_weights=None, in_channels=bands, classes=classes, decoder_channels=CHANNELS
    )
    model.load_state_dict(draw_tensors({name: list(one.shape) for name, one in model.state_dict().items()}))
    return model.eval()


def write(folder: Path, content: Any, name: str = "model.pth") -> Path:
    """A file of what torch.save or safetensors writes, by its suffix."""
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def begin(config: Config, path: Path, **said: Any) -> tuple[UTT, Outcome]:
    """The network of a configuration after --init-from, in eval mode, and the table."""
    torch.manual_seed(1)
    model = make_network(config)
    outcome = start_from(read_start(Start(path, **said), config), model, config)
    return model.eval(), outcome


def draw_aerial(size: int = 64) -> Tensor:
    """One aerial patch, uint8 (1, 5, size, size)."""
    return torch.randint(0, 256, (1, 5, size, size), generator=torch.Generator().manual_seed(7)).byte()


def scale(aerial: Tensor, means: Any = AERIAL_MEANS, stds: Any = AERIAL_STDS) -> Tensor:
    """Pixels (1, B, size, size) as float32 (pixel - mean) / std."""
    means, stds = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in (means, stds))
    return ((aerial.double() - means) / stds).float()


def classify(model: UTT, aerial: Tensor) -> Tensor:
    """Logits of the aerial branch alone."""
    with torch.inference_mode():
        return model.unet.decode(model.unet.encode(aerial))


def under(prefix: str) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}
