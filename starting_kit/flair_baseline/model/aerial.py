"""The aerial branch: encoder, decoder and head of smp, called apart, so that fusion comes between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.model.architectures import make_smp_network, stages_read
from flair_baseline.model.upsampling import DecoderBlock

PATCH_SIZE = 512  # pixels
BANDS = "RVBIE"  # red, green (French: vert), blue, near infrared, elevation, as the platform hands them over
# Statistics of these bands as 8-bit values: of 4,048 training patches, published with GEO-Bench-2. Those of
# FLAIR #1's code belong to another encoding of the elevation.
AERIAL_MEANS = (111.41, 115.80, 106.90, 104.09, 17.77)
AERIAL_STDS = (51.28, 45.10, 44.40, 39.56, 30.34)


class AerialBranch(nn.Module):
    """Encoder and decoder on 8-bit aerial patches, normalised by band; a U-Net unless told otherwise.

    With ResNet34 and decoder "unet" it has 24,444,381 parameters. It reads the bands that `channels` names,
    in that order. With `pooling` p it reads means of p x p pixels, and its logits have that resolution. With
    `scale_only` pixel values are divided by 255 and not normalised.
    """

    encoder: Any  # smp is not typed
    decoder: Any
    segmentation_head: Any
    means: Tensor
    stds: Tensor
    bands: Tensor

    def __init__(
        self,
        encoder: str,
        encoder_weights: str | None,
        decoder_channels: Sequence[int],
        pooling: int,
        classes: int,
        scale_only: bool = False,
        channels: str = BANDS,
        decoder: str = "unet",
    ) -> None:
        super().__init__()
        side = PATCH_SIZE // pooling
        network = make_smp_network(
            decoder, encoder, encoder_weights, decoder_channels, len(channels), classes, side
        )
        self.encoder, self.decoder = network.encoder, network.decoder
        self.segmentation_head = network.segmentation_head
        if decoder == "unet":
            for index, block in enumerate(self.decoder.blocks):
                self.decoder.blocks[index] = DecoderBlock(block)
        self.has_tokens = decoder == "dpt"
        # channels of the input, which smp leaves out with decoder dpt, and of all stages
        self.counts: list[int] = [*([len(channels)] if self.has_tokens else []), *self.encoder.out_channels]
        self.stages = stages_read(decoder, self.counts)
        self.rows: int = side // self.encoder.output_stride  # of the deepest stage
        self.pooling = pooling
        bands = [BANDS.index(letter) for letter in channels]
        self.first_bands = bands == list(range(len(bands)))
        means, stds = ([0.0] * 5, [255.0] * 5) if scale_only else (AERIAL_MEANS, AERIAL_STDS)
        for name, values in (("means", means), ("stds", stds)):
            chosen = torch.tensor([values[band] for band in bands])[:, None, None]
            self.register_buffer(name, chosen, persistent=False)
        self.register_buffer("bands", torch.tensor(bands), persistent=False)

    def encode(self, aerial: Tensor) -> list[Tensor]:
        """Aerial patches uint8 (B, 5, H, W) -> the normalised input, then the stages, shallowest first.

        The stages have H / 2 to H / 32 rows. With decoder dpt they are layers of a vision transformer, which
        all have the same number of rows, and the transformer's prefix tokens come after them.
        """
        chosen = aerial[:, : len(self.means)] if self.first_bands else aerial.index_select(1, self.bands)
        pixels = (chosen.float() - self.means) / self.stds
        if self.pooling > 1:
            pixels = F.avg_pool2d(pixels, self.pooling)
        if not self.has_tokens:
            return list(self.encoder(pixels))
        stages, tokens = self.encoder(pixels)
        return [pixels, *stages, *(token for token in tokens if token is not None)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """The features of `encode`, fused or not -> logits (B, classes, H / p, W / p)."""
        if not self.has_tokens:
            return self.segmentation_head(self.decoder(features))
        end = len(self.counts)
        tokens: list[Tensor] | list[None] = features[end:] or [None] * (end - 1)
        return self.segmentation_head(self.decoder(features[1:end], tokens))
