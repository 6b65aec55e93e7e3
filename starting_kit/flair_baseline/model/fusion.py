"""Fusion of the satellite embedding into the U-Net's encoder stages (datapaper, Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

CENTRE = 10  # side in Sentinel-2 pixels: 100 m, which cover an aerial patch of 102.4 m


def crop_centre(maps: Tensor, size: int = CENTRE) -> Tensor:
    """The central (size, size) pixels of maps (B, C, S, S), S even."""
    start = (maps.shape[-1] - size) // 2
    return maps[..., start : start + size, start : start + size]


def _zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _collapsed_mlp(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Three linear layers: widths change in equal steps, or double inside if inputs and outputs are equal."""
    step = int((outputs - inputs) / 3)
    first, second = (inputs + step, inputs + 2 * step) if outputs != inputs else (2 * inputs, 2 * inputs)
    return nn.Sequential(
        nn.Linear(inputs, first),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.Dropout(dropout),
        nn.ReLU(),
        _zeroed(nn.Linear(second, outputs)),
    )


class Fusion(nn.Module):
    """Adds two features of the satellite embedding to every encoder stage.

    *cropped* is computed from the pixels of the patch, *collapsed* from the mean over the whole window.
    The input itself, which smp counts as stage 0, is not an encoder stage: the decoder never reads it.
    Official checkpoints have layers for it; they come first and are not used. The last layers of both
    sub-modules start at zero, so that training begins with the pretrained U-Net as it is.
    """

    def __init__(self, embedding: int, stages: Sequence[int], dropout: float = 0.3) -> None:
        super().__init__()
        self.cropped = nn.ModuleList(_zeroed(nn.Conv2d(embedding, channels, 1)) for channels in stages)
        self.collapsed = nn.ModuleList(_collapsed_mlp(embedding, channels, dropout) for channels in stages)

    def forward(self, stages: Sequence[Tensor], embedding: Tensor, drop: bool = False) -> list[Tensor]:
        """Stages [(B, C_i, H_i, W_i)] and the embedding (B, C, S, S) -> stages of the same shapes.

        With `drop` the stages stay as they are. The features are then multiplied by 0 instead of left out:
        so every layer keeps a gradient, which distributed training waits for.
        """
        centre, mean = crop_centre(embedding), embedding.mean((2, 3))
        fused, used = [], slice(len(self.cropped) - len(stages), None)
        for stage, conv, mlp in zip(stages, self.cropped[used], self.collapsed[used], strict=True):
            # the mean can be added before the enlargement, which leaves constants as they are
            features = conv(centre) + mlp(mean)[:, :, None, None]
            # 10 Sentinel-2 pixels are stretched by 2.4 % over the 10.24 that the patch covers
            added = F.interpolate(features, size=stage.shape[-2:], mode="bilinear", align_corners=False)
            fused.append(stage + 0 * added if drop else stage + added)
        return fused
