"""L-TAE: lightweight temporal attention, one learned query per head (Garnot and Landrieu, AALTD 2020).

In U-TAE it reads every pixel of the deepest feature map as a time series of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def encode_days(days: Tensor, size: int, period: float = 1000.0) -> Tensor:
    """Alternating sines and cosines of a day at geometric wavelengths: (B, T) -> (B, T, size)."""
    exponent = torch.arange(size, device=days.device).div(2, rounding_mode="floor") * (2 / size)
    angles = days.float().unsqueeze(-1) / period**exponent
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)


def masked_group_norm(norm: nn.GroupNorm, series: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Group norm of a series (N, T, C), without the dates that the padding mask (N, T) marks as padding.

    Mean and variance are taken over time and the channels of a group: padding would change them.
    """
    if padding_mask is None:
        return norm(series.transpose(1, 2)).transpose(1, 2)
    grouped = series.unflatten(-1, (norm.num_groups, -1)).float()
    weight = (~padding_mask)[:, :, None, None].to(grouped.dtype)
    count = weight.sum(1, keepdim=True) * grouped.shape[-1]
    mean = (grouped * weight).sum((1, 3), keepdim=True) / count
    variance = ((grouped - mean).square() * weight).sum((1, 3), keepdim=True) / count
    normalised = ((grouped - mean) * torch.rsqrt(variance + norm.eps)).flatten(-2)
    return normalised * norm.weight + norm.bias


class QueryAttention(nn.Module):
    """Attention of `heads` learned queries over the dates; each head reads its own share of the channels."""

    def __init__(self, width: int, heads: int, key_size: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.key_size = heads, key_size
        self.Q = nn.Parameter(torch.empty(heads, key_size))
        self.fc1_k = nn.Linear(width, heads * key_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.Q, std=(2 / key_size) ** 0.5)
        nn.init.normal_(self.fc1_k.weight, std=(2 / key_size) ** 0.5)

    def forward(self, values: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values (N, T, width), mask (N, T) or None -> summary (N, width), attention (N, heads, T)."""
        keys = self.fc1_k(values).unflatten(-1, (self.heads, self.key_size))
        similarities = torch.einsum("nthk,hk->nht", keys, self.Q.to(keys.dtype)) / self.key_size**0.5
        similarities = similarities.float()
        if padding_mask is not None:
            similarities = similarities.masked_fill(padding_mask[:, None], float("-inf"))
        attention = self.dropout(similarities.softmax(-1)).to(values.dtype)
        summary = torch.einsum("nht,nthv->nhv", attention, values.unflatten(-1, (self.heads, -1)))
        return summary.flatten(1), attention


class LTAE(nn.Module):
    """Temporal encoder with U-TAE's defaults: 128 channels, widened to 256 for 16 heads, keys of 4."""

    def __init__(self, channels: int = 128, heads: int = 16, key_size: int = 4, width: int = 256) -> None:
        super().__init__()
        self.in_norm = nn.GroupNorm(heads, channels)
        self.inconv = nn.Conv1d(channels, width, 1)
        self.attention_heads = QueryAttention(width, heads, key_size, dropout=0.1)
        self.mlp = nn.Sequential(nn.Linear(width, channels), nn.BatchNorm1d(channels), nn.ReLU())
        self.dropout = nn.Dropout(0.2)
        self.out_norm = nn.GroupNorm(heads, channels)

    def forward(
        self, frames: Tensor, days: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summarise a series of feature maps.

        frames (B, T, C, h, w); days (B, T); padding mask bool (B, T), True where a date only pads the batch,
        at least one False per series; None when there is no padding.
        Returns the summary (B, C, h, w) and the attention (B, T, heads, h, w), which is 0 on padding.
        """
        batch, _, _, height, width = frames.shape
        pixels = frames.permute(0, 3, 4, 1, 2).flatten(0, 2)  # one series (T, C) per pixel
        if padding_mask is not None:
            padding_mask = padding_mask.repeat_interleave(height * width, 0)
        values = masked_group_norm(self.in_norm, pixels, padding_mask)
        values = self.inconv(values.transpose(1, 2)).transpose(1, 2)
        heads = self.attention_heads.heads
        codes = encode_days(days, values.shape[-1] // heads).repeat(1, 1, heads)  # the same for every head
        values = values + codes.repeat_interleave(height * width, 0)
        summary, attention = self.attention_heads(values, padding_mask)
        summary = self.out_norm(self.dropout(self.mlp(summary)))
        summary = summary.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)
        attention = attention.unflatten(0, (batch, height, width)).permute(0, 4, 3, 1, 2)
        return summary, attention
