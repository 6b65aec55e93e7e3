"""A learner: the model with its optimizer, its learning-rate schedule and one row per finished epoch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from flair_baseline.config import Config
from flair_baseline.encoders import find_unread, make_network, require_encoder
from flair_baseline.machines.distributed import world_size
from flair_baseline.model.utt import UTT
from flair_baseline.training.history import Row
from flair_scoring.base.errors import UsageError


@dataclass
class Learner:
    """Everything that a resumed run must restore; `rows` has one row per finished epoch."""

    model: UTT
    network: nn.Module  # the model, wrapped in DistributedDataParallel when there are several ranks
    optimizer: Optimizer
    scheduler: LRScheduler
    rows: list[Row]

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def no_sync(self) -> AbstractContextManager:
        """Inside, gradients add up on this rank; the next backward pass outside averages over the ranks."""
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


def make_learner(config: Config, device: torch.device, steps_per_epoch: int) -> Learner:
    """Model, optimizer and schedule at the start of a run; the seed decides the model's first weights.

    On GPUs batch norm takes the statistics of all ranks.
    """
    torch.manual_seed(config.seed)
    model = build_model(config).to(device).to(memory_format=torch.channels_last)
    network: nn.Module = model
    if world_size() > 1:
        for name in find_unread(config):  # distributed training would wait for their gradients
            model.get_parameter(name).requires_grad_(False)
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
        steps = config.epochs * steps_per_epoch
        scheduler = OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps)
    else:  # the paper gives the patience; the other numbers are those of FLAIR #1's published code
        patience = config.plateau_patience
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, cooldown=4, min_lr=1e-7)
    return Learner(model, network, optimizer, scheduler, rows=[])


def build_model(config: Config) -> UTT:
    """The untrained model, with the encoder's pretrained weights when the configuration names some.

    Raises UsageError when there is no such encoder, or its weights are neither cached nor downloadable.
    """
    require_encoder(config)
    try:
        return make_network(config)
    except OSError as error:
        raise UsageError(
            f"encoder_weights={config.encoder_weights}: the weights of {config.encoder} are not cached and "
            "cannot be downloaded from huggingface.co; go online or use encoder_weights=null"
        ) from error
