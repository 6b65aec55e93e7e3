"""Metadata of aerial patches: the 45 numbers of FLAIR #1's baseline, and the networks that read them.

The datapaper encodes position, time and camera of a patch and adds them, through an MLP, to every stage of
the U-Net's encoder. The numbers here are those of the published code, with one repair: in that code an
operator binds too early, and every month of the year gets the same two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIZE = 45  # position 32, altitude 1, camera 2, year 4, month 2, day 2, time 2
MONTH = slice(39, 41)
YEARS = (2018, 2019, 2020, 2021)
WAVELENGTH = 1e8  # metres; so long that the numbers of neighbouring patches hardly differ
HIGHEST = 3164.9099121094  # metres; altitude of the highest patch of the data set


def encode_metadata(metadata: Mapping[str, Any]) -> Tensor:
    """The metadata of one patch, as in the json, as float32 (45,).

    Keys: `date` "2021-06-15", `time` "11h30", `patch_centroid_x`, `_y`, `_z` in metres, `camera`. The numbers
    of an absent value, of None, and of a year outside 2018-2021 are 0.
    """
    x, y, altitude = (metadata.get(f"patch_centroid_{axis}") for axis in "xyz")
    camera = metadata.get("camera")
    date, time = metadata.get("date"), metadata.get("time")
    year, month, day = map(int, date.split("-")) if date is not None else (None, None, None)
    hour, minute = map(int, time.split("h")) if time is not None else (None, None)
    numbers = [
        *_encode_coordinate(x),
        *_encode_coordinate(y),
        0.0 if altitude is None else altitude / HIGHEST,
        *((0.0, 0.0) if camera is None else (1.0, 0.0) if "UCE" in camera else (0.0, 1.0)),
        *(float(year == one) for one in YEARS),
        *_encode_phase(None if month is None else (month - 1) / 12),
        *_encode_phase(None if day is None else day / 31),
        *_encode_phase(None if hour is None or minute is None else (60 * hour + minute) / 1440),
    ]
    return torch.tensor(numbers, dtype=torch.float32)


def _encode_coordinate(metres: float | None) -> list[float]:
    """Alternating sines and cosines at 8 wavelengths, 16 numbers; 0 for None."""
    if metres is None:
        return [0.0] * 16
    angles = metres / WAVELENGTH * WAVELENGTH ** -(np.arange(8) / 8)
    return np.stack([np.sin(angles), np.cos(angles)], axis=1).ravel().tolist()


def _encode_phase(turns: float | None) -> tuple[float, float]:
    """A point on the circle of radius 0.5 around (0.5, 0.5); for None 0, 0, which is not on that circle."""
    if turns is None:
        return 0.0, 0.0
    return 0.5 + 0.5 * float(np.sin(2 * np.pi * turns)), 0.5 + 0.5 * float(np.cos(2 * np.pi * turns))


def _hidden_layers() -> list[nn.Module]:
    return [nn.Linear(SIZE, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, 32), nn.Dropout(0.5), nn.ReLU()]


class EveryStage(nn.Module):
    """The paper's way: one number per channel for each stage of the encoder, 38,816 parameters in ResNet34.

    The last layers start at zero, so that training begins with the pretrained U-Net as it is.
    """

    def __init__(self, stages: Sequence[int]) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*_hidden_layers())
        self.outputs = nn.ModuleList(nn.Linear(32, channels) for channels in stages)
        for parameter in self.outputs.parameters():
            nn.init.zeros_(parameter)

    def forward(self, stages: Sequence[Tensor], metadata: Tensor) -> list[Tensor]:
        """Stages [(B, C_i, H_i, W_i)] and the encoded metadata (B, 45) -> stages of the same shapes."""
        hidden = self.mlp(metadata)
        pairs = zip(stages, self.outputs, strict=True)
        return [stage + output(hidden)[:, :, None, None] for stage, output in pairs]


class DeepestStage(nn.Module):
    """The published code's way: one number per row of the deepest stage, 5,552 parameters for 16 rows."""

    stuck_month: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*_hidden_layers(), nn.Linear(32, rows))
        # that code gives every month this phase, minus a twelfth of a turn; its checkpoints expect it
        phase = torch.tensor(_encode_phase(-1 / 12))
        self.register_buffer("stuck_month", phase, persistent=False)

    def forward(self, stages: Sequence[Tensor], metadata: Tensor) -> list[Tensor]:
        """Stages [(B, C_i, H_i, W_i)] and the encoded metadata (B, 45) -> stages of the same shapes."""
        metadata = metadata.clone()
        metadata[:, MONTH] = self.stuck_month
        *shallow, deepest = stages
        return [*shallow, deepest + self.mlp(metadata)[:, None, :, None]]
