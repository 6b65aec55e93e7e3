"""The U-Net's decoder block without its enlarged maps, three quarters of which are repetition."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn
from torch.nn import functional as F

# In one dimension: doubling a signal by nearest neighbour and convolving it with 3 taps equals a transposed
# convolution with stride 2 and 4 taps. Row w marks those of the 4 taps that contain tap w of the 3.
# In two dimensions the Kronecker product of this matrix with itself maps 3 x 3 taps to 4 x 4 taps.
TAPS = ((0.0, 0.0, 1.0, 1.0), (0.0, 1.0, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0))


class DecoderBlock(nn.Module):
    """Replaces a decoder block of smp's U-Net: the same layers and outputs with fewer products.

    smp's block enlarges its maps by nearest neighbour, concatenates the skip and convolves twice. The first
    convolution is linear, so it is the sum of a convolution of the skip and one of the enlarged maps. The
    latter equals a transposed convolution of the maps before they are enlarged: 16 products for each of their
    pixels instead of 36.
    """

    taps: Tensor

    def __init__(self, block: UnetDecoderBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.register_buffer("taps", torch.kron(torch.tensor(TAPS), torch.tensor(TAPS)), persistent=False)

    def forward(self, deep: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        """(B, C, height / 2, width / 2) and (B, S, height, width) -> (B, outputs, height, width)."""
        convolution, *others = self.conv1
        weight, channels = convolution.weight, deep.shape[1]
        kernel = (weight[:, :channels].flatten(2) @ self.taps).unflatten(2, (4, 4)).transpose(0, 1)
        maps = F.conv_transpose2d(deep, kernel, convolution.bias, stride=2, padding=1)
        if skip_connection is not None and skip_connection.shape[1]:  # some encoders have empty stages
            maps = maps + F.conv2d(skip_connection, weight[:, channels:], padding=1)
        for layer in others:
            maps = layer(maps)
        return self.conv2(maps)
