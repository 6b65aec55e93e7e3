"""An ensemble as a submission: it averages the probabilities of several networks and of their views.

The probability of a class is the weighted mean of the softmax of all members and views. A view turns aerial
patch and Sentinel-2 window together, and its probabilities are turned back. Members may differ in their
architecture, channels, window size and resolution: coarser probabilities are enlarged to the finest ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.model.inference import computes_in_bfloat16, load_network, prepare_inputs
from flair_baseline.model.staging import stage_inputs
from flair_baseline.model.utt import UTT, choose_labels
from flair_baseline.model.views import VIEWS, View, turn, turn_back

TURNED = ("aerial", "series")  # the inputs that have rows and columns
Inputs = dict[str, Any]  # of tensors


@dataclass(frozen=True)
class Member:
    """A network, its part of config.json, its views, and its weights by class: float32 (13 or 1, 1, 1)."""

    network: UTT
    settings: dict[str, Any]
    views: tuple[View, ...]
    weight: Tensor


class Model:
    """The members that config.json names, in float32 unless a subclass says otherwise.

    With `one_at_a_time` in config.json the weights of the members wait in the memory of the machine, and only
    those of the member that computes are on the device. This saves memory of a GPU; each request then copies
    all weights once. On the CPU it changes nothing.
    """

    bfloat16 = False  # autocast, on GPUs and CPUs that have the instructions; a few labels change
    staged = False  # on GPUs: inputs are copied without waiting, and the GPU prepares the series (staging.py)

    def __init__(self, submission_dir: Path, device: torch.device) -> None:
        settings = json.loads((submission_dir / "config.json").read_text(encoding="utf-8"))
        self.device, self.one_at_a_time = device, settings["one_at_a_time"]
        self.batch_size, self.superpatch_size = settings["batch_size"], settings["superpatch_size"]
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.members = [_load_member(one, submission_dir, device) for one in settings["members"]]
        if not self.one_at_a_time:
            for member in self.members:
                member.network.to(device)
        self.autocast = self.bfloat16 and computes_in_bfloat16(device)
        self.staged = self.staged and device.type == "cuda"

    def predict(self, batch: dict[str, Any]) -> Tensor:
        """Class indices uint8 (B, 512, 512) for a batch of the platform."""
        return choose_labels(self.average(batch), batch["aerial"].shape[-1])

    def average(self, batch: dict[str, Any]) -> Tensor:
        """Mean probabilities float32 (B, 13, n, n); n is 512, or less if all members work at less."""
        prepared: dict[tuple, Inputs] = {}
        total: Tensor | None = None
        for member in self.members:
            key = _preparation(member.settings)
            if key not in prepared:
                prepared[key] = self._prepare(batch, member.settings)
            with _lent(member.network, self.device) if self.one_at_a_time else nullcontext():
                for view in member.views:
                    with torch.inference_mode():
                        probabilities = self.predict_view(member, prepared[key], view).mul_(member.weight)
                        total = probabilities if total is None else _add(total, probabilities)
        assert total is not None
        return total

    def _prepare(self, batch: dict[str, Any], settings: dict[str, Any]) -> Inputs:
        if self.staged:
            return stage_inputs(batch, settings, self.device)
        return {name: tensor.to(self.device) for name, tensor in prepare_inputs(batch, settings).items()}

    def predict_view(self, member: Member, inputs: Inputs, view: View) -> Tensor:
        """A member's probabilities float32 (B, 13, n, n) for a view of `prepare_inputs`, turned back."""
        turned: Inputs = {
            name: turn(tensor, view) if name in TURNED else tensor for name, tensor in inputs.items()
        }
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits, _ = member.network.classify_aerial(**turned)
        return turn_back(logits.float().softmax(1), view)


def _load_member(settings: dict[str, Any], folder: Path, device: torch.device) -> Member:
    views = VIEWS[settings["views"]]
    weight = torch.tensor(settings["weight"], dtype=torch.float32) / len(views)
    network = load_network(settings["model"], folder / settings["weights"])
    return Member(network, settings, views, weight.reshape(-1, 1, 1).to(device))


def _preparation(settings: dict[str, Any]) -> tuple:
    """What decides how the inputs of a member are prepared: members with equal values share them."""
    model, used = settings["model"], ("cloud_filter", "cloud_rule", "monthly_average", "superpatch_size")
    series = (*(settings[key] for key in used), model["official_layers"]) if model["satellite"] else ()
    return *series, model["metadata"]


def _add(first: Tensor, second: Tensor) -> Tensor:
    """The sum of two maps of probabilities, in place; the coarser one is enlarged to the finer one."""
    size = max(first.shape[-1], second.shape[-1])
    first, second = (
        one if one.shape[-1] == size else F.interpolate(one, size=(size, size)) for one in (first, second)
    )
    return first.add_(second)


@contextmanager
def _lent(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside, the network is on the device; afterwards its own tensors are back, without being copied."""
    tensors = [*network.parameters(), *network.buffers()]
    kept = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.to(device)
    try:
        yield
    finally:
        for tensor, own in zip(tensors, kept, strict=True):
            tensor.data = own
