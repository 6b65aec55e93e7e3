"""The roofline of a network: the shortest time in which this device could run its layers.

A convolution or matrix product takes at least the time of its floating-point operations at the device's peak
speed, and at least the time of its inputs and outputs at the peak speed of the memory. Everything else counts
as free. The peaks are measured here, not taken from a data sheet: one is the faster of a large matrix product
and a convolution, the other is a large copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

ROUNDS = 5
SIZES = {"cuda": (8192, 32, 1 << 30), "cpu": (1024, 2, 1 << 27)}  # matrix, images of the convolution, bytes


@dataclass(frozen=True)
class Peaks:
    """Floating-point operations and bytes per second."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product: its floating-point operations, the bytes that it reads and writes."""

    operations: int
    bytes: int


class Layers(TorchDispatchMode):
    """Collects in `found` every convolution and matrix product that is computed inside the `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Layer] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func.overloadpacket)
        if count is None:
            with self:  # in inference mode a layer arrives as a whole; its parts are known
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        out = func(*args, **kwargs)
        # The backward pass of a convolution gives several tensors, and None for those that nobody needs
        tensors = [value for value in tree_iter((args, out)) if isinstance(value, Tensor)]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.found.append(Layer(count(*args, **kwargs, out_val=out), size))
        return out


def list_layers(run: Callable[[], object]) -> list[Layer]:
    """The layers that `run` computes."""
    with Layers() as layers:
        run()
    return layers.found


def ideal_seconds(layers: list[Layer], peaks: Peaks) -> float:
    """The sum of the layers' shortest times."""
    return sum(max(layer.operations / peaks.operations, layer.bytes / peaks.bytes) for layer in layers)


def measure_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """The best that this device reaches in several tries, with the present setting of TF32."""
    side, images, size = SIZES[device.type]
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    product = 2 * side**3 / _best_seconds(lambda: matrix @ matrix, device)
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(device, dtype)
    layer = layer.to(memory_format=torch.channels_last)
    image = torch.randn(images, 64, 128, 128, device=device, dtype=dtype)
    image = image.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = _best_seconds(lambda: layer(image), device)
    convolution = 2 * images * 128 * 128 * 64 * 64 * 9 / seconds
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * size / _best_seconds(lambda: target.copy_(source), device)  # read and written
    return Peaks(max(product, convolution), copied)


def _best_seconds(run: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])
