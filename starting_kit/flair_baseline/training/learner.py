"""What learns: the model with its optimizer, learning-rate schedule and the course of the run so far."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from flair_baseline.config import Config
from flair_baseline.encoders import make_network, require_encoder
from flair_baseline.model.utae import UTAE
from flair_baseline.model.utt import UTT
from flair_baseline.training.distributed import local_rank, world_size
from flair_baseline.training.history import Row
from flair_scoring.base.errors import UsageError

SMALLEST_STD = 1e-3  # of a band that hardly varies in the sample, in reflectance


@dataclass
class Learner:
    """All that a resumed run must find again; `rows` has one row per finished epoch."""

    model: UTT
    network: nn.Module  # the model, or what gives all ranks the mean of their gradients of it
    optimizer: Optimizer
    scheduler: LRScheduler
    rows: list[Row]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def gradients_stay(self) -> AbstractContextManager:
        """Inside, gradients only add up here: a later backward pass will share them with the other ranks."""
        return self.network.no_sync() if isinstance(self.network, DistributedDataParallel) else nullcontext()

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for `restore`."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rows": self.rows,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.rows = state["rows"]


def make_learner(config: Config, device: torch.device, batches_per_epoch: int) -> Learner:
    """Model, optimizer and schedule at the start of a run; the model is drawn from the seed.

    `batches_per_epoch` are those of this rank. On GPUs batch norm takes the statistics of all ranks.
    """
    accumulation = batches_per_step(config)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device).to(memory_format=torch.channels_last)
    network: nn.Module = model
    if world_size() > 1:
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # each rank keeps its own batch-norm statistics within an epoch
        network = DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )
    kind = {"sgd": SGD, "adamw": AdamW}[config.optimizer]
    # the paper names SGD and its rate: no momentum, no weight decay
    optimizer = kind(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scheduler: LRScheduler
    if config.schedule == "one_cycle":
        steps = config.epochs * math.ceil(batches_per_epoch / accumulation)
        scheduler = OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps)
    else:  # the paper gives the patience; the other numbers are those of FLAIR #1's published code
        patience = config.plateau_patience
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, cooldown=4, min_lr=1e-7)
    return Learner(model, network, optimizer, scheduler, rows=[])


@torch.no_grad()
def standardise_series(utae: UTAE, means: Tensor, stds: Tensor) -> None:
    """Let a new U-TAE begin as if its series were standardised by band; means and stds float32 (10,).

    Its first layer takes over the arithmetic, so the checkpoint holds it and every reader feeds reflectances.
    """
    first = utae.in_conv[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.weight /= stds.clamp(min=SMALLEST_STD)[:, None, None].to(first.weight)
    first.bias -= (first.weight.sum((2, 3)) * means.to(first.weight)).sum(1)


def share_step(config: Config) -> Config:
    """With a smaller batch_size if a step has too few patches for a batch of that size on every rank."""
    share, rest = divmod(config.effective_batch_size, world_size())
    return config if rest or share > config.batch_size else replace(config, batch_size=share)


def batches_per_step(config: Config) -> int:
    """How many batches each rank has in a step; UsageError when the ranks cannot share a step evenly."""
    if config.accumulation % world_size():
        raise UsageError(
            f"effective_batch_size={config.effective_batch_size} is no multiple of {world_size()} ranks with "
            f"batch_size={config.batch_size} each; change one of the three"
        )
    return config.accumulation // world_size()


def build_model(config: Config) -> UTT:
    """The untrained model, with the encoder's pretrained weights when the configuration names some.

    Raises UsageError when there is no such encoder or its weights cannot be had.
    """
    require_encoder(config)
    try:
        return make_network(config)
    except OSError as error:
        raise UsageError(
            f"encoder_weights={config.encoder_weights}: the weights of {config.encoder} are not cached and "
            "cannot be downloaded from huggingface.co; go online or use encoder_weights=null"
        ) from error


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one, under torchrun the one of this rank."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError(
            "device=cuda: no GPU can be used here; look at what nvidia-smi says or use device=cpu"
        )
    return torch.device("cuda", local_rank()) if name != "cpu" and available else torch.device("cpu")
