"""Encoders of segmentation_models.pytorch and timm: their names, their weights, the image sizes they read."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch

from flair_baseline.config import Config, model_options
from flair_baseline.initial.encoder_file import load_encoder, names_file, require_file
from flair_baseline.machines.distributed import rank
from flair_baseline.model.utt import PATCH_SIZE, UTT
from flair_scoring.base.errors import UsageError

TIMM = "tu-"  # before names of timm
LONGEST_REASON = 200  # characters of a library's message


def require_encoder(config: Config) -> None:
    """UsageError unless the configuration's encoder exists and has the pretrained weights that it names.

    A file of weights must exist on rank 0, which reads it for all ranks.
    """
    name, weights = config.encoder, config.encoder_weights
    known = _pretrained_weights(name)
    if known is None:
        every = [*smp.encoders.get_encoder_names(), *(TIMM + model for model in timm.list_models())]
        near = difflib.get_close_matches(name, every, n=4) or difflib.get_close_matches(
            TIMM + name, every, n=4
        )
        nearest = f"the nearest are {', '.join(near)}; " if near else ""
        raise UsageError(
            f"encoder={name}: no such encoder; {nearest}all are in "
            "segmentation_models_pytorch.encoders.get_encoder_names() and, after tu-, timm.list_models()"
        )
    if weights is None or weights in known:
        return
    if names_file(weights):
        if rank() == 0:
            require_file(weights)
        return
    names = f"{', '.join(known)} or null" if known else "null"
    raise UsageError(
        f"encoder={name}, encoder_weights={weights}: no weights {weights} of this encoder are known; "
        f"expected {names}, or a file such as weights.safetensors"
    )


def check_network(config: Config, batch_size: int) -> None:
    """UsageError unless the U-Net of a configuration can be made and learn from `batch_size` patches at once.

    Some encoders can only read images of one size, and batch norm needs at least two values per channel. To
    find out, the network runs on torch's device "meta", which computes shapes and no values.
    """
    require_encoder(config)
    network = make_network(replace(config, encoder_weights=None, satellite=False)).unet.to("meta").train()
    aerial = torch.zeros(batch_size, 5, PATCH_SIZE, PATCH_SIZE, dtype=torch.uint8, device="meta")
    try:
        network.decode(network.encode(aerial))
    except NotImplementedError:
        return  # a layer that "meta" cannot run: training will tell
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        if "meta" in reason:
            return
        if "more than 1 value per channel" in reason:
            raise UsageError(
                f"encoder={config.encoder}: with 1 patch at once batch norm has a single value per "
                "channel; choose batch_size=2 or more, and an effective_batch_size of as much for each rank"
            ) from error
        size = PATCH_SIZE // config.aerial_pooling
        told = f" ({reason:.{LONGEST_REASON}})" if reason else ""
        raise UsageError(
            f"encoder={config.encoder}: cannot read images of {size} x {size} pixels{told}; choose another"
        ) from error


def make_network(config: Config) -> UTT:
    """The network of a configuration, with the encoder's pretrained weights if it names some.

    Weights in a file are read on rank 0 alone: DistributedDataParallel hands them on. UsageError when the
    encoder cannot be built; DataError when the file holds another's weights; OSError when published weights
    are neither cached nor downloadable.
    """
    weights = config.encoder_weights
    if names_file(weights):
        network = make_network(replace(config, encoder_weights=None))
        if rank() == 0:
            load_encoder(network.unet.encoder, Path(str(weights)), config.encoder)
        return network
    try:
        return UTT(encoder_weights=weights, **model_options(config))
    except OSError:
        raise
    except Exception as error:  # every family of encoders raises exceptions of its own
        reason = str(error.args[0] if error.args else error).split("\n")[0].rstrip(".")
        chosen = f"encoder={config.encoder}, encoder_weights={config.encoder_weights}"
        raise UsageError(f"{chosen}: {reason:.{LONGEST_REASON}}; choose another") from error


def _pretrained_weights(encoder: str) -> list[str] | None:
    """The values of `encoder_weights` for an encoder, besides null; None if there is no such encoder."""
    known = smp.encoders.encoders.get(encoder)
    if known is not None:
        return list(known["pretrained_settings"])
    name = encoder
    if smp.encoders.is_equivalent_to_timm_universal(encoder):  # smp's older names of timm's encoders
        name = encoder.replace("timm-mobilenetv3", "timm-tf_mobilenetv3").replace("timm-", TIMM)
    if not name.startswith(TIMM):
        return None
    model = name.removeprefix(TIMM)
    if ":" in model:  # a model outside timm's own list, such as hf-hub:owner/name
        return ["imagenet"]
    if not timm.is_model(model):
        return None
    return ["imagenet"] if timm.is_model_pretrained(model.partition(".")[0]) else []
