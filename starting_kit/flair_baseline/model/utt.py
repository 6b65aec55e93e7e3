"""U-T&T, the datapaper's model: a U-Net reads the aerial patch, a U-TAE the Sentinel-2 series.

Other encoders and decoders of segmentation_models.pytorch can take the U-Net's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.model.aerial import PATCH_SIZE as PATCH_SIZE
from flair_baseline.model.aerial import AerialBranch
from flair_baseline.model.fusion import Fusion, crop_centre
from flair_baseline.model.metadata import DeepestStage, EveryStage
from flair_baseline.model.utae import UTAE, WIDTHS

CLASSES = 13  # the 12 scored ones and *other*
OFFICIAL_DAY = 134  # 15 May 2021; the official code counts days back from it (sentinel.find_official_days)


def choose_labels(logits: Tensor, size: int) -> Tensor:
    """The class with the highest logit: (B, classes, n, n) -> uint8 (B, size, size), enlarged if n < size."""
    labels = logits.max(1).indices.to(torch.uint8)  # on the CPU up to four times as fast as argmax
    return labels if labels.shape[-1] == size else F.interpolate(labels[None], size=(size, size))[0]


class UTT(nn.Module):
    """The whole model; without the satellite branch it is the paper's U-Net baseline.

    `unet` is the aerial branch, whatever its decoder. Satellite embedding and metadata are added to every
    stage of its encoder that the decoder reads. The paper's model has 27,249,318 parameters. `metadata` adds
    38,816, which feed every stage of the encoder.
    `official_layers` makes the network of the official code, so that its checkpoints can be converted. That
    network has 27,254,744 parameters, or 27,260,296 with metadata for the "deepest" stage: it has fusion
    layers for the input, which nothing reads (4,581), and a second satellite head (845) instead of the one
    that the paper crops. It scales aerial patches to 0..1 and counts days back from 15 May.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        aerial_pooling: int = 1,
        satellite: bool = True,
        metadata: bool = False,
        metadata_stages: Literal["every", "deepest"] = "every",
        official_layers: bool = False,
        channels: str = "RVBIE",
        decoder: str = "unet",
    ) -> None:
        super().__init__()
        self.official_layers = official_layers
        self.unet = AerialBranch(
            encoder,
            encoder_weights,
            decoder_channels,
            aerial_pooling,
            CLASSES,
            official_layers,
            channels,
            decoder,
        )
        counts, self.stages = self.unet.counts, self.unet.stages
        widths = [counts[stage] for stage in self.stages]
        self.metadata: EveryStage | DeepestStage | None = None
        if metadata:
            every = metadata_stages == "every"
            self.metadata = EveryStage(widths) if every else DeepestStage(self.unet.rows)
        self.utae = UTAE(classes=CLASSES) if satellite else None
        unused = counts[:1] if official_layers else []
        self.fusion = Fusion(WIDTHS[0], [*unused, *widths]) if satellite else None
        self.official_head = nn.Conv2d(WIDTHS[0], CLASSES, 1) if satellite and official_layers else None
        if self.utae is not None and self.fusion is not None and official_layers:
            # nothing reads them: distributed training would wait for their gradients
            for unread in (self.utae.out_conv, self.fusion.cropped[0], self.fusion.collapsed[0]):
                unread.requires_grad_(False)

    def forward(
        self,
        aerial: Tensor,
        series: Tensor | None = None,
        days: Tensor | None = None,
        padding_mask: Tensor | None = None,
        metadata: Tensor | None = None,
        drop_satellite: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of the aerial and of the satellite branch.

        aerial uint8 (B, 5, H, W); series float32 (B, T, 10, S, S) reflectances; days float32 (B, T) of the
        year; padding mask bool (B, T), True where a date only pads the batch, None when no date does;
        metadata float32 (B, 45) as `encode_metadata` makes them. `drop_satellite` is the paper's modality
        dropout: the satellite branch adds nothing to the aerial one, but still returns its own logits.
        Returns aerial logits (B, 13, H / p, W / p), where p is the pooling, and satellite logits
        (B, 13, 10, 10), one for each Sentinel-2 pixel of the patch, or None without that branch.
        """
        logits, embedding = self.classify_aerial(aerial, series, days, padding_mask, metadata, drop_satellite)
        if self.utae is None or embedding is None:
            return logits, None
        if self.official_head is not None:
            return logits, self.official_head(crop_centre(embedding))
        return logits, crop_centre(self.utae.classify(embedding))

    def classify_aerial(
        self,
        aerial: Tensor,
        series: Tensor | None = None,
        days: Tensor | None = None,
        padding_mask: Tensor | None = None,
        metadata: Tensor | None = None,
        drop_satellite: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Aerial logits and satellite embedding (B, 64, S, S) or None; arguments as for `forward`."""
        features, embedding = self.unet.encode(aerial), None
        stages = [features[stage] for stage in self.stages]
        if self.metadata is not None:
            assert metadata is not None
            stages = self.metadata(stages, metadata)
        if self.utae is not None and self.fusion is not None:
            assert series is not None
            assert days is not None
            days = OFFICIAL_DAY - days if self.official_layers else days
            embedding = self.utae(series, days, padding_mask)
            stages = self.fusion(stages, embedding, drop_satellite)
        for stage, feature in zip(self.stages, stages, strict=True):
            features[stage] = feature
        return self.unet.decode(features), embedding
