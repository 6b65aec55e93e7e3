"""U-T&T, the datapaper's model: a U-Net reads the aerial patch, a U-TAE the Sentinel-2 series."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.fusion import Fusion, crop_centre
from flair_baseline.unet import UNet
from flair_baseline.utae import UTAE, WIDTHS

CLASSES = 13  # the 12 scored ones and *other*


def choose_labels(scores: Tensor, size: int) -> Tensor:
    """The class with the highest score: (B, classes, n, n) -> uint8 (B, size, size), enlarged if n < size."""
    labels = scores.argmax(1).to(torch.uint8)
    return labels if labels.shape[-1] == size else F.interpolate(labels[None], size=(size, size))[0]


class UTT(nn.Module):
    """The whole model; without the satellite branch it is the paper's U-Net baseline.

    It has 27,249,318 parameters. The official code's 27,254,744 include fusion layers for the input, which
    nothing reads (4,581), and a second satellite head (845) in place of the one that the paper crops.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        aerial_pooling: int = 1,
        satellite: bool = True,
    ) -> None:
        super().__init__()
        self.unet = UNet(encoder, encoder_weights, decoder_channels, aerial_pooling, CLASSES)
        self.utae = UTAE(classes=CLASSES) if satellite else None
        channels = self.unet.encoder.out_channels
        # stage 0 is the input itself; some encoders have a placeholder without channels as stage 1
        self.fused_stages = [stage for stage, count in enumerate(channels) if stage > 0 and count > 0]
        widths = [channels[stage] for stage in self.fused_stages]
        self.fusion = Fusion(WIDTHS[0], widths) if satellite else None

    def forward(
        self,
        aerial: Tensor,
        series: Tensor | None = None,
        days: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Class scores of the aerial and of the satellite branch.

        aerial uint8 (B, 5, H, W); series float32 (B, T, 10, S, S) reflectances; days float32 (B, T) of the
        year; present bool (B, T), False where a date only pads the batch.
        Returns scores (B, 13, H / p, W / p), p the pooling, and (B, 13, 10, 10) of the patch's Sentinel-2
        pixels, or None without the branch.
        """
        features = self.unet.encode(aerial)
        if self.utae is None or self.fusion is None:
            return self.unet.decode(features), None
        embedding, scores = self.utae(series, days, present)
        fused = self.fusion([features[stage] for stage in self.fused_stages], embedding)
        for stage, feature in zip(self.fused_stages, fused, strict=True):
            features[stage] = feature
        return self.unet.decode(features), crop_centre(scores)
