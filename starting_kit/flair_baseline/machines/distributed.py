"""Training on several ranks: the processes that torchrun starts, on one machine or many.

Without torchrun there is one rank, and the functions here return at once what one rank has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from flair_scoring.base.errors import UsageError


@contextmanager
def joined_ranks() -> Iterator[None]:
    """Inside, the ranks of torchrun can exchange tensors: by gloo on the CPU, by NCCL on GPUs.

    UsageError when a machine with GPUs has more ranks than GPUs.
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        if local_rank() >= (gpus := torch.cuda.device_count()):
            raise UsageError(
                f"{local_rank() + 1} processes or more, but {gpus} GPUs on this machine; start one per GPU, "
                "or hide the GPUs with CUDA_VISIBLE_DEVICES= and train on the CPU"
            )
        torch.cuda.set_device(local_rank())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0 on; rank 0 writes files and messages."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of ranks."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its machine: the GPU that it uses."""
    return int(os.environ.get("LOCAL_RANK", 0))


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replace the tensor by the sum of all ranks' tensors, in place; shapes and dtypes must be equal."""
    if distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def from_rank_0(value: Any) -> Any:
    """Rank 0's value, on every rank: other machines may not see the files from which rank 0 has read it."""
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def copy_from_rank_0(model: nn.Module) -> None:
    """Give the model of every rank the parameters and buffers of rank 0's; shapes must be equal."""
    if distributed.is_initialized():
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)


def average_buffers(model: nn.Module) -> None:
    """Average the batch-norm statistics over the ranks; under SyncBatchNorm they are already equal."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= world_size()
