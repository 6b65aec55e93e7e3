"""The baseline as a submission: this module, with those it imports, travels in the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from flair_baseline.sentinel import pad_series, prepare_series
from flair_baseline.utt import UTT, choose_labels

NOTICE = """\
######################################################################
{weights} is missing.
This U-T&T is UNTRAINED: it is good for timing only, its labels mean nothing.
######################################################################"""


class Model:
    """U-T&T from config.json and weights.safetensors, plain eager float32.

    With an `untrained_seed` in config.json the weights may be missing: the network is drawn from that seed.
    """

    def __init__(self, submission_dir: Path, device: torch.device) -> None:
        settings = json.loads((submission_dir / "config.json").read_text(encoding="utf-8"))
        self.settings, self.device = settings, device
        self.batch_size, self.superpatch_size = settings["batch_size"], settings["superpatch_size"]
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.manual_seed(settings.get("untrained_seed", 0))
        self.network = UTT(**settings["model"])
        weights = submission_dir / "weights.safetensors"
        if weights.is_file() or "untrained_seed" not in settings:
            self.network.load_state_dict(load_file(weights))
        else:
            print(NOTICE.format(weights=weights.name), file=sys.stderr, flush=True)
        self.network.eval().to(device)

    @torch.inference_mode()
    def predict(self, batch: dict[str, Any]) -> Tensor:
        """Class indices uint8 (B, 512, 512) for a batch of the platform."""
        inputs = [batch["aerial"]]
        if self.settings["model"]["satellite"]:
            inputs += self._prepare_satellite(batch)
        scores, _ = self.network(*(tensor.to(self.device) for tensor in inputs))
        return choose_labels(scores, batch["aerial"].shape[-1])

    def _prepare_satellite(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        stored = zip(batch["sentinel"], batch["sentinel_masks"], batch["sentinel_dates"], strict=True)
        options = {key: self.settings[key] for key in ("cloud_filter", "monthly_average")}
        prepared = [
            prepare_series(data.numpy(), masks.numpy(), dates.numpy(), **options)
            for data, masks, dates in stored
        ]
        return pad_series([series for series, _ in prepared], [days for _, days in prepared])
