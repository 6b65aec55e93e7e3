"""What a run sets up on its machine: device, precision, deterministic algorithms, the memory allocator."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager

import torch

from flair_baseline.machines.distributed import local_rank
from flair_scoring.base.errors import UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one, under torchrun the one of this rank."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError(
            "device=cuda: no GPU can be used here; look at what nvidia-smi says or use device=cpu"
        )
    return torch.device("cuda", local_rank()) if name != "cpu" and available else torch.device("cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Inside, networks compute in bfloat16 or float16 where that is safe, if `precision` is bf16 or fp16."""
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "fp32")


def be_deterministic(wanted: bool) -> None:
    """Restrict torch to deterministic algorithms, or lift that restriction.

    Call it before CUDA computes anything. Some encoders and decoders hold operations without a deterministic
    algorithm on CUDA: there torch raises RuntimeError, which `explained_failures` puts into words.
    """
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it when it starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted)


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory that it frees: page faults slow a training step on the CPU down."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # other C libraries have none
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
