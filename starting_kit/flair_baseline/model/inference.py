"""The baseline as a submission: the class `Model` that the platform asks for predictions.

It predicts what the trained network predicts, faster: batch norm is folded into other layers, the satellite
branch computes no logits of its own, and feature maps are stored channels last, which suits the convolutions
and the argmax.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from flair_baseline.model.folding import fold_batch_norm
from flair_baseline.model.fusion import crop_centre
from flair_baseline.model.metadata import encode_metadata
from flair_baseline.model.sentinel import pad_series, prepare_series
from flair_baseline.model.staging import shorten, stage_inputs
from flair_baseline.model.utt import UTT, choose_labels

NOTICE = """\
######################################################################
{weights} is missing.
This U-T&T is UNTRAINED: it is good for timing only, its labels mean nothing.
######################################################################"""
_CALLS_BEFORE_CAPTURE = 3
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")  # of CPUs with instructions for bfloat16


class Model:
    """U-T&T from config.json and weights.safetensors, in float32 unless a subclass says otherwise.

    With an `untrained_seed` in config.json the weights may be missing: the network is drawn from that seed.
    """

    bfloat16 = False  # autocast, on GPUs and CPUs that have the instructions; a few labels change
    compiled = False  # torch.compile of the U-Net, during the warm-up; on the CPU it needs a C++ compiler
    staged = False  # on GPUs: inputs are copied without waiting, and the GPU prepares the series (staging.py)
    graphs = False  # on GPUs: CUDA graphs, captured during the warm-up; inputs are staged, too

    def __init__(self, submission_dir: Path, device: torch.device) -> None:
        settings = json.loads((submission_dir / "config.json").read_text(encoding="utf-8"))
        self.settings, self.device = settings, device
        self.batch_size, self.superpatch_size = settings["batch_size"], settings["superpatch_size"]
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.manual_seed(settings.get("untrained_seed", 0))
        weights = submission_dir / "weights.safetensors"
        if weights.is_file() or "untrained_seed" not in settings:
            self.network = load_network(settings["model"], weights)
        else:
            print(NOTICE.format(weights=weights.name), file=sys.stderr, flush=True)
            self.network = fold_network(UTT(**settings["model"]))
        self.network.to(device)
        self.autocast = self.bfloat16 and computes_in_bfloat16(device)
        if self.compiled:
            compile_unet(self.network)
        self.label: Callable[..., Tensor] = self._label
        if device.type != "cuda":
            self.staged = self.graphs = False
        if self.graphs:
            self.label = capture_graphs(self._label)
            if self.network.utae is not None:
                self.network.utae.skip_padding = False
        self._captured: set[tuple[int, int]] = set()  # sizes of batches, and their numbers of dates

    @torch.inference_mode()
    def predict(self, batch: dict[str, Any]) -> Tensor:
        """Class indices uint8 (B, 512, 512) for a batch of the platform."""
        if not (self.staged or self.graphs):
            prepared = prepare_inputs(batch, self.settings)
            return self._label(**{name: one.to(self.device) for name, one in prepared.items()})
        inputs = stage_inputs(batch, self.settings, self.device, fixed_lengths=self.graphs)
        if self.graphs:
            self._capture_shorter(inputs)
        return self.label(**inputs)

    def _capture_shorter(self, inputs: dict[str, Tensor]) -> None:
        """Capture the graphs of all shorter series as well, because these may follow on the clock.

        The warm-up begins with the shortest series of the data and ends with the longest.
        """
        size = len(inputs["aerial"]), inputs["series"].shape[1] if "series" in inputs else 0
        if size not in self._captured:
            self._captured.add(size)
            for shorter in shorten(inputs):
                self.label(**shorter)

    def _label(self, **inputs: Any) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits, _ = self.network.classify_aerial(**inputs)
        return choose_labels(logits, inputs["aerial"].shape[-1])


def load_network(options: dict[str, Any], weights: Path) -> UTT:
    """The trained network in a file of weights, on the CPU, ready to predict; `options` are those of UTT."""
    network = UTT(**options)
    network.load_state_dict(load_file(weights))
    return fold_network(network)


def fold_network(network: UTT) -> UTT:
    """The same network in eval mode, faster: batch norm folded, feature maps channels last."""
    fold_batch_norm(network.eval())
    return network.to(memory_format=torch.channels_last)


def prepare_inputs(batch: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A batch of the platform as tensors, the arguments of `UTT.forward`, prepared as in training.

    `settings` are those of one network in config.json. If the batch has larger windows than this network
    reads, their centre is cut out.
    """
    inputs = {"aerial": batch["aerial"]}
    if settings["model"]["satellite"]:
        inputs |= _prepare_satellite(batch, settings)
    if settings["model"]["metadata"]:
        inputs["metadata"] = torch.stack([encode_metadata(one) for one in batch["metadata"]])
    return inputs


def _prepare_satellite(batch: dict[str, Any], settings: dict[str, Any]) -> dict[str, Tensor]:
    size = settings["superpatch_size"]
    stored = [
        [crop_centre(window, size).numpy() for window in batch[key]] for key in ("sentinel", "sentinel_masks")
    ]
    options = {key: settings[key] for key in ("cloud_filter", "cloud_rule", "monthly_average")}
    options["official_days"] = settings["model"]["official_layers"]
    prepared = [
        prepare_series(data, masks, dates.numpy(), **options)
        for data, masks, dates in zip(*stored, batch["sentinel_dates"], strict=True)
    ]
    series, days, mask = pad_series([series for series, _ in prepared], [days for _, days in prepared])
    inputs = {"series": series, "days": days}
    return inputs if mask is None else inputs | {"padding_mask": mask}


def compile_unet(network: UTT) -> None:
    """Let torch compile encoder and decoder, in place, at the first call with each batch size.

    The U-TAE, a small part of the work, is not compiled: torch would compile it again, on the clock, for
    every series whose length did not occur in the warm-up.
    """
    for part in (network.unet.encoder, network.unet.decoder):
        part.compile(dynamic=False)


def capture_graphs(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function of tensors on a GPU, as CUDA graphs, which start without work of the processor.

    There is a graph for each set of shapes, captured at the first call with it. All graphs share their
    memory, so a result is valid until the next call.
    """
    captured: dict[tuple, tuple[torch.cuda.CUDAGraph, dict[str, Tensor], Tensor]] = {}
    pool = torch.cuda.graph_pool_handle()

    def replay(**inputs: Tensor) -> Tensor:
        shapes = tuple((name, tensor.shape) for name, tensor in inputs.items())
        if shapes not in captured:
            held = {name: tensor.clone() for name, tensor in inputs.items()}
            # Libraries choose their algorithms and allocate memory in the first calls, outside of the graph
            apart = torch.cuda.Stream()
            apart.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(apart):
                for _ in range(_CALLS_BEFORE_CAPTURE):
                    function(**held)
            torch.cuda.current_stream().wait_stream(apart)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                result = function(**held)
            captured[shapes] = graph, held, result
        graph, held, result = captured[shapes]
        for name, tensor in inputs.items():
            held[name].copy_(tensor)
        graph.replay()
        return result

    return replay


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is fast on the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and any(flag in cpu.read_text() for flag in BFLOAT16_FLAGS)
