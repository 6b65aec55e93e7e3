"""Inputs on their way to a GPU: copied through pinned memory without waiting, the series prepared there.

`inference.prepare_inputs` prepares the series on the processor, which takes a third of a millisecond for 55
dates. Here the processor only chooses the dates and gathers them, and the GPU computes the same numbers, bit
for bit: a sum of digital numbers is a whole number below 2**24, which float32 holds exactly in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flair_baseline.model.fusion import crop_centre
from flair_baseline.model.metadata import encode_metadata
from flair_baseline.model.sentinel import (
    MONTHS,
    REFLECTANCE_ONE,
    choose_dates,
    count_months,
    find_days,
)

DATED = ("series", "days", "padding_mask")  # inputs (B, T, …)
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128)  # to which series without monthly means are padded


def stage_inputs(
    batch: dict[str, Any], settings: dict[str, Any], device: torch.device, fixed_lengths: bool = False
) -> dict[str, Tensor]:
    """A batch of the platform as tensors on the device, the arguments of `UTT.forward`.

    `settings` are those of one network in config.json. With `fixed_lengths` the series are padded to 12 dates
    where they are monthly means, otherwise to one of `LENGTHS`, and there is always a padding mask. Without,
    the result is that of `prepare_inputs`.
    """
    inputs = {"aerial": send(batch["aerial"], device)}  # first: it is copied while the dates are chosen
    if settings["model"]["satellite"]:
        inputs |= _stage_series(batch, settings, device, fixed_lengths)
    if settings["model"]["metadata"]:
        encoded = torch.stack([encode_metadata(one) for one in batch["metadata"]])
        inputs["metadata"] = send(encoded, device)
    return inputs


def shorten(inputs: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The inputs with each smaller number of dates that series of fixed length may have."""
    longest = inputs["series"].shape[1] if "series" in inputs else 0
    for length in LENGTHS if longest in LENGTHS else ():
        if length < longest:
            yield {name: tensor[:, :length] if name in DATED else tensor for name, tensor in inputs.items()}


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; a GPU copies from pinned memory while the processor goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return _new_pinned(tensor.shape, tensor.dtype, device).copy_(tensor).to(device, non_blocking=True)


def _new_pinned(shape: torch.Size | tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that is not used again before the GPU has read it: torch sees to that."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def _stage_series(
    batch: dict[str, Any], settings: dict[str, Any], device: torch.device, fixed_lengths: bool
) -> dict[str, Tensor]:
    size, monthly = settings["superpatch_size"], settings["monthly_average"]
    rule = settings["cloud_rule"] if settings["cloud_filter"] else None
    official = settings["model"]["official_layers"]
    windows, masks = (
        [crop_centre(window, size).numpy() for window in batch[key]] for key in ("sentinel", "sentinel_masks")
    )
    kept = [choose_dates(data, mask, rule) for data, mask in zip(windows, masks, strict=True)]
    dates = [one.numpy()[chosen] for one, chosen in zip(batch["sentinel_dates"], kept, strict=True)]
    # For each kept date the image that it is a part of, for each image its day and number of dates
    found = [
        count_months(one, official)
        if monthly
        else (np.arange(len(one)), find_days(one, official), np.ones(len(one), np.float32))
        for one in dates
    ]
    longest = max(len(days) for _, days, _ in found)
    if fixed_lengths:
        known = (MONTHS,) if monthly else LENGTHS
        longest = next((length for length in known if length >= longest), longest)
    shape = (len(found), longest)
    rows = np.concatenate([number * longest + row for number, (row, _, _) in enumerate(found)])
    days, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for index, (_, day, count) in enumerate(found):
        days[index, : len(day)], counts[index, : len(day)] = day, count

    numbers = _new_pinned((len(rows), *windows[0].shape[1:]), torch.uint16, device)
    gathered = np.split(numbers.numpy(), np.cumsum([len(one) for one in kept])[:-1])
    for data, chosen, out in zip(windows, kept, gathered, strict=True):
        np.take(data, chosen, axis=0, out=out)
    on_device = {
        name: send(torch.from_numpy(array), device)
        for name, array in {"rows": rows, "days": days, "counts": counts}.items()
    }
    series = _average(numbers.to(device, non_blocking=True), on_device["rows"], on_device["counts"])
    inputs = {"series": series, "days": on_device["days"]}
    # Asked of the processor's copy: to ask the GPU would wait for it
    if fixed_lengths or not counts.all():
        inputs["padding_mask"] = on_device["counts"] == 0
    return inputs


def _average(numbers: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Reflectances float32 (B, T, bands, S, S): means over the digital numbers, uint16 (N, bands, S, S).

    rows (N,) says to which of the B x T images each one belongs, and counts (B, T) how many belong to it.
    """
    # torch computes little with uint16
    values = numbers.view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32)
    sums = values.new_zeros(counts.numel(), *values.shape[1:]).index_add_(0, rows, values)
    sums /= counts.clamp(min=1).reshape(-1, 1, 1, 1)
    # A tensor: by a Python number a GPU multiplies with the reciprocal, which changes the last bit
    sums /= torch.full((), float(REFLECTANCE_ONE), device=sums.device)
    return sums.unflatten(0, counts.shape)
