"""How given_names.json.xz was made: names and shapes of the tensors in networks that IGN's own classes build.

The classes are those of github.com/IGNF/FLAIR-1 at 5ae35eb and github.com/IGNF/FLAIR-HUB at 3d5693b, with
smp 0.6 and timm 1.0.31. To make the file again, check both out and run

    python tests/starting_kit/given_names_recipe.py FLAIR-1 FLAIR-HUB tests/starting_kit/given_names.json.xz

Two modules that the classes import and do not need here, pytorch_lightning and transformers, are empty. No
weights are downloaded, and torch's device "meta" makes shapes without numbers. Both codes put the network
into a Lightning module as `model`; FLAIR-HUB's losses have weights, `criterion.<task>.weight`.
"""

from __future__ import annotations

import importlib
import json
import lzma
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import segmentation_models_pytorch as smp
import torch
import yaml

COSIA, LPIS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"


def stub(name: str, **content: Any) -> None:
    """An empty module in the place of one that is not installed."""
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def flair_1(root: Path) -> torch.nn.Module:
    """FLAIR-1's U-Net with its published configuration: ResNet34, 5 bands, 19 classes."""
    sys.path.insert(0, str(root))
    config = yaml.safe_load((root / "configs/flair-1-config.yaml").read_text())
    config["model_framework"] = {
        "model_provider": "SegmentationModelsPytorch",
        "SegmentationModelsPytorch": {"encoder_decoder": "resnet34_unet"},
    }
    return importlib.import_module("src.flair.model").FLAIR_ModelFactory(config)


def flair_hub(root: Path, *modalities: str, labels: tuple[str, ...] = (COSIA,)) -> torch.nn.Module:
    """FLAIR-HUB's network for some modalities, with a small ConvNeXtV2 and a U-Net's decoder."""
    if str(root / "src") not in sys.path:
        sys.path.insert(0, str(root / "src"))
    config: dict[str, Any] = {}
    for name in ("modalities", "models", "supervision"):
        config |= yaml.safe_load((root / f"configs/train/config_{name}.yaml").read_text())
    config["models"]["monotemp_model"]["arch"] = "convnextv2_atto-unet"
    inputs = config["modalities"]["inputs"]
    config["modalities"]["inputs"] = {name: name in modalities for name in inputs}
    config["modalities"]["aux_loss"] |= {"AERIAL_RGBI": len(modalities) > 1}
    config["labels"] = list(labels)
    classes = importlib.import_module("flair_hub.models.flair_model")
    classes.FLAIR_HUB_Model.print_model_parameters = lambda *_: None
    return classes.FLAIR_HUB_Model(config, dict.fromkeys(inputs, 512))


def describe(network: torch.nn.Module, losses: dict[str, list[int]]) -> dict[str, list[int]]:
    """Names and shapes in the state dict of the Lightning module around a network."""
    state = network.state_dict()
    return {f"model.{name}": list(tensor.shape) for name, tensor in state.items()} | losses


def main(first: Path, hub: Path, target: Path) -> None:
    """Build the networks and write the file."""
    stub("pytorch_lightning")
    stub("pytorch_lightning.utilities")
    stub("pytorch_lightning.utilities.rank_zero", rank_zero_only=lambda function: function)
    stub("transformers", AutoModelForSemanticSegmentation=None, AutoConfig=None)
    smp.create_model = partial(smp.create_model, encoder_weights=None)
    cosia, lpis = {f"criterion.{COSIA}.weight": [19]}, {f"criterion.{LPIS}.weight": [23]}
    fused = ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS")
    with torch.device("meta"):
        names = {
            "flair-1": describe(flair_1(first), {"criterion.weight": [19]}),
            "flair-hub aerial": describe(flair_hub(hub, "AERIAL_RGBI"), cosia),
            "flair-hub fused": describe(flair_hub(hub, *fused, labels=(COSIA, LPIS)), cosia | lpis),
        }
    target.write_bytes(lzma.compress(json.dumps(names, separators=(",", ":")).encode()))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
