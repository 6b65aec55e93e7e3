"""The moving average of a model's weights and batch-norm statistics over the steps of a run.

After its n-th step (n = 0, 1, …) the average A of a weight W becomes A + (1 - d) (W - A), with
d = min(ema, (1 + n) / (10 + n)); the first step sets A = W. The short memory at the start lets a run of few
steps forget its first weights: d is 2/11 after the second step, 0.5 after the 9th and 0.99 after the 891st.
Whole numbers, such as the count of batches of a batch norm, are copied.

The weights are equal on all ranks, so their averages are, too. Where each rank has batch-norm statistics of
its own (on the CPU), it averages its own over the steps; at the end of an epoch the mean of all ranks'
averages is taken, as the mean of their statistics is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """An average without any step yet; `update_parameters` takes in the model after a step."""

    @torch.no_grad()
    def blend(averages: Tensors, current: Tensors, steps: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, current, 1 - decay_after(int(steps), decay))
        else:
            torch._foreach_copy_(averages, current)

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)


def decay_after(steps: int, decay: float) -> float:
    """The share d of the old average when this many steps have been taken in already."""
    return min(decay, (1 + steps) / (10 + steps))
