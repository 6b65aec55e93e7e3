"""The aerial branch: smp's U-Net, with its encoder and decoder called apart, so that fusion comes between."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from flair_baseline.model.upsampling import DecoderBlock

# Red, green, blue, near infrared, elevation as 8-bit values: statistics of 4,048 training patches, published
# with GEO-Bench-2. Those of FLAIR #1's code belong to another encoding of the elevation.
AERIAL_MEANS = (111.41, 115.80, 106.90, 104.09, 17.77)
AERIAL_STDS = (51.28, 45.10, 44.40, 39.56, 30.34)


class UNet(smp.Unet):
    """U-Net on 8-bit aerial patches, normalised by channel; 24,444,381 parameters with ResNet34.

    It reads the first `channels` bands. With `pooling` p it reads means of p x p pixels, and its logits have
    that resolution. With `scale_only` pixel values are divided by 255 and not normalised.
    """

    means: Tensor
    stds: Tensor

    def __init__(
        self,
        encoder: str,
        encoder_weights: str | None,
        decoder_channels: Sequence[int],
        pooling: int,
        classes: int,
        scale_only: bool = False,
        channels: int = 5,
    ) -> None:
        super().__init__(
            encoder_name=encoder,
            encoder_depth=len(decoder_channels),
            encoder_weights=encoder_weights,
            decoder_channels=tuple(decoder_channels),
            in_channels=channels,
            classes=classes,
        )
        for index, block in enumerate(self.decoder.blocks):
            self.decoder.blocks[index] = DecoderBlock(block)
        self.pooling = pooling
        means, stds = ([0.0] * 5, [255.0] * 5) if scale_only else (AERIAL_MEANS, AERIAL_STDS)
        self.register_buffer("means", torch.tensor(means[:channels])[:, None, None], persistent=False)
        self.register_buffer("stds", torch.tensor(stds[:channels])[:, None, None], persistent=False)

    def encode(self, aerial: Tensor) -> list[Tensor]:
        """Aerial patches uint8 (B, 5, H, W) -> the normalised input and the stages from H / 2 to H / 32."""
        pixels = (aerial[:, : len(self.means)].float() - self.means) / self.stds
        if self.pooling > 1:
            pixels = F.avg_pool2d(pixels, self.pooling)
        return list(self.encoder(pixels))

    def decode(self, features: list[Tensor]) -> Tensor:
        """The features of `encode`, fused or not -> logits (B, classes, H / p, W / p)."""
        return self.segmentation_head(self.decoder(features))
