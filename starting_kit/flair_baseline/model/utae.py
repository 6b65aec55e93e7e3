"""U-TAE: a U-Net over image series, temporal attention at its deepest level (Garnot and Landrieu, ICCV 2021).

The widths are 64, 64, 128, 128 as in FLAIR #2. Every date goes through the same spatial encoder; dates that
only pad a batch do not. Tensor names are those of the original implementation without its `conv.` nesting.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.model.ltae import LTAE

WIDTHS = (64, 64, 128, 128)
NORM_GROUPS = 4


def reflect(frames: Tensor) -> Tensor:
    """Frames (N, C, H, W) with one pixel of reflection padding: (N, C, H + 2, W + 2).

    The gradient of torch's reflection padding is not deterministic on CUDA. Where that is asked for, the
    padding is concatenated from slices.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return F.pad(frames, (1, 1, 1, 1), mode="reflect")
    rows = torch.cat([frames[:, :, 1:2], frames, frames[:, :, -2:-1]], dim=2)
    return torch.cat([rows[..., 1:2], rows, rows[..., -2:-1]], dim=3)


class ReflectingConv(nn.Conv2d):
    """Convolution with one pixel of reflection padding."""

    def forward(self, frames: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, about H / stride, about W / stride)."""
        return F.conv2d(reflect(frames), self.weight, self.bias, self.stride)


def _conv(inputs: int, outputs: int, norm: nn.Module, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [ReflectingConv(inputs, outputs, kernel, stride), norm, nn.ReLU()]


def _group_norm_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return _conv(inputs, outputs, nn.GroupNorm(NORM_GROUPS, outputs), kernel, stride)


class DownBlock(nn.Module):
    """Halves the resolution, then applies a 3x3 convolution and a residual one; with group norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*_group_norm_conv(inputs, inputs, kernel=4, stride=2))
        self.conv1 = nn.Sequential(*_group_norm_conv(inputs, outputs))
        self.conv2 = nn.Sequential(*_group_norm_conv(outputs, outputs))

    def forward(self, frames: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        frames = self.conv1(self.down(frames))
        return frames + self.conv2(frames)


class UpBlock(nn.Module):
    """Doubles the resolution, joins the skip, then a 3x3 convolution and a residual one; with batch norm."""

    def __init__(self, inputs: int, outputs: int, skip: int) -> None:
        super().__init__()
        self.skip_conv = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip), nn.ReLU())
        self.up = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.conv1 = nn.Sequential(*_conv(outputs + skip, outputs, nn.BatchNorm2d(outputs)))
        self.conv2 = nn.Sequential(*_conv(outputs, outputs, nn.BatchNorm2d(outputs)))

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, skip, 2H, 2W) -> (B, outputs, 2H, 2W)."""
        joined = self.conv1(torch.cat([self.up(deep), self.skip_conv(skip)], dim=1))
        return joined + self.conv2(joined)


def weigh_dates(frames: Tensor, attention: Tensor) -> Tensor:
    """Sum over the dates; each group of channels is weighed by the attention of its head (*att_group*).

    frames (B, T, C, H, W); attention (B, T, heads, h, w), enlarged to H x W bilinearly -> (B, C, H, W).
    """
    batch, dates, heads = attention.shape[:3]
    weights = F.interpolate(
        attention.flatten(0, 1), size=frames.shape[-2:], mode="bilinear", align_corners=False
    )
    weights = weights.unflatten(0, (batch, dates)).unsqueeze(3)
    return (frames.unflatten(2, (heads, -1)) * weights).sum(1).flatten(1, 2)


class UTAE(nn.Module):
    """Sentinel-2 series -> embedding of 64 channels, at the resolution of the series.

    Dates that only pad a batch are left out of the spatial layers, which saves work. With `skip_padding` off
    they go through these layers too, and only the attention leaves them out. All shapes are then known
    beforehand, as CUDA graphs need it.
    """

    skip_padding = True

    def __init__(self, bands: int = 10, classes: int = 13) -> None:
        super().__init__()
        first, *_ = WIDTHS
        pairs = list(pairwise(WIDTHS))
        self.in_conv = nn.Sequential(*_group_norm_conv(bands, first), *_group_norm_conv(first, first))
        self.down_blocks = nn.ModuleList(DownBlock(shallow, deep) for shallow, deep in pairs)
        self.temporal_encoder = LTAE(WIDTHS[-1])
        self.up_blocks = nn.ModuleList(
            UpBlock(deep, shallow, skip=shallow) for shallow, deep in reversed(pairs)
        )
        head = [*_conv(first, 32, nn.BatchNorm2d(32)), *_conv(32, classes, nn.BatchNorm2d(classes))]
        self.out_conv = nn.Sequential(*head[:-1])  # without the original's last ReLU: logits may be negative

    def forward(self, series: Tensor, days: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """The embedding (B, 64, S, S) of a batch of series.

        series (B, T, bands, S, S), S a multiple of 8; days (B, T); padding mask bool (B, T), True where a
        date only pads the batch, at least one False per series; None when there is no padding.
        """
        present = None if padding_mask is None or not self.skip_padding else ~padding_mask
        maps = [self.in_conv(series.flatten(0, 1) if present is None else series[present])]
        for block in self.down_blocks:
            maps.append(block(maps[-1]))
        *skips, deepest = (_restore_dates(frames, days, present) for frames in maps)
        embedding, attention = self.temporal_encoder(deepest, days, padding_mask)
        for block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            embedding = block(embedding, weigh_dates(skip, attention))
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """The embedding (B, 64, S, S) -> logits (B, classes, S, S)."""
        return self.out_conv(embedding)


def _restore_dates(frames: Tensor, days: Tensor, present: Tensor | None) -> Tensor:
    """Frames (N, C, H, W) of the present dates -> (B, T, C, H, W), 0 where a date is padding."""
    if present is None:
        return frames.unflatten(0, days.shape)
    restored = frames.new_zeros(*present.shape, *frames.shape[1:])
    restored[present] = frames
    return restored
