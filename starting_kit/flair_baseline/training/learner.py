"""A learner: the model with its optimizer, its learning-rate schedule and one row per finished epoch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from flair_baseline.config import Config
from flair_baseline.encoders import find_unread, make_network, require_encoder
from flair_baseline.machines.distributed import world_size
from flair_baseline.model.utt import UTT
from flair_baseline.training.averaging import make_average
from flair_baseline.training.history import Row
from flair_baseline.training.schedules import finish_step, make_schedule
from flair_scoring.base.errors import UsageError


@dataclass
class Learner:
    """Everything that a resumed run must restore; `rows` has one row per finished epoch.

    `class_counts`, int32 (N, 13), are the pixels of each class in each training patch; None without
    rare_classes.
    """

    config: Config
    model: UTT
    network: nn.Module  # the model, wrapped in DistributedDataParallel when there are several ranks
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: GradScaler  # of the loss with precision=fp16; otherwise it changes nothing
    average: AveragedModel | None  # of the model, unless ema=0
    rows: list[Row]
    skipped_steps: int = 0  # in this epoch, because a gradient had overflowed
    class_counts: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def kept_model(self) -> UTT:
        """The model that is validated and saved: the moving average, once there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, UTT)
        return averaged

    def finish_step(self) -> None:
        """Let the optimizer use the gradients of the step, clipped, unless one of them has overflowed."""
        self.scaler.unscale_(self.optimizer)
        if self.config.clip_gradients > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() < scale:
            self.skipped_steps += 1
        elif self.average is not None:
            self.average.update_parameters(self.model)
        finish_step(self.scheduler)

    def no_sync(self) -> AbstractContextManager:
        """Inside, gradients add up on this rank; the next backward pass outside averages over the ranks."""
        return self.network.no_sync() if isinstance(self.network, DistributedDataParallel) else nullcontext()

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for `restore`."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rows": self.rows,
        }
        state |= {} if self.class_counts is None else {"class_counts": self.class_counts}
        state |= {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return state | ({} if self.average is None else {"average": self.average.state_dict()})

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.rows = state["rows"]
        self.class_counts = state.get("class_counts")


def make_learner(config: Config, device: torch.device, steps_per_epoch: int) -> Learner:
    """Model, optimizer and schedule at the start of a run; the seed decides the model's first weights.

    On GPUs batch norm takes the statistics of all ranks. UsageError as `build_model` and `make_schedule`.
    """
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    if device.type == "cuda" or not has_narrow_shortcut(model):
        model.to(memory_format=torch.channels_last)
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
    scheduler = make_schedule(config, optimizer, steps_per_epoch)
    scaler = GradScaler(device.type, enabled=config.precision == "fp16")
    average = make_average(model, config.ema) if config.ema > 0 else None
    return Learner(config, model, network, optimizer, scheduler, scaler, average, rows=[])


def has_narrow_shortcut(model: nn.Module) -> bool:
    """Whether a layer of the model takes every second pixel of few channels, as the first one of MobileOne.

    With channels last, torch 2.15 writes beyond the memory of such a layer's gradients on the CPU, and the
    process dies. 16 channels and more were seen to be safe.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels // layer.groups < 16
        for layer in model.modules()
    )


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
            "cannot be downloaded from huggingface.co; go online, give them as encoder_weights=FILE, or use "
            "encoder_weights=null"
        ) from error
