"""Encoders of segmentation_models.pytorch and timm: their names, weights and suitable decoders."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from flair_baseline.config import Config, model_options
from flair_baseline.config_rules import find_impossible
from flair_baseline.initial.encoder_file import load_encoder, names_file, require_file
from flair_baseline.machines.distributed import copy_from_rank_0, rank
from flair_baseline.model.aerial import BANDS
from flair_baseline.model.architectures import TIMM
from flair_baseline.model.metadata import SIZE
from flair_baseline.model.utae import WIDTHS
from flair_baseline.model.utt import PATCH_SIZE, UTT
from flair_scoring.base.errors import UsageError

LONGEST_REASON = 200  # characters of a library's message
# part of a library's message -> the same in plain words
PLAIN_REASONS = {
    "keyword argument 'output_stride'": (
        "this decoder dilates the last stage of its encoder, and this encoder cannot be dilated"
    ),
    "Only Timm encoders": "this decoder follows vision transformers of timm only",
    "is not support encoder_name": "this decoder cannot follow this encoder",
    "is not supported for Linknet": "this decoder cannot follow this encoder",
    "Unsupported model downsampling pattern": (
        "the stages of this encoder do not halve the resolution one after the other, as this decoder expects"
    ),
}
# what a refusal looks for, in this order
DECODERS_TO_TRY = ("unet", "upernet", "dpt")
ENCODERS_TO_TRY = ("resnet34", "tu-vit_small_patch16_224")


def require_encoder(config: Config) -> None:
    """UsageError unless the configuration's encoder exists and has the pretrained weights that it names.

    A file of weights must exist on rank 0, which reads it for all ranks.
    """
    name, weights = config.encoder, config.encoder_weights
    if ":" in name:  # such as tu-hf-hub:owner/name
        raise UsageError(
            f"encoder={name}: is described outside of timm, where a submission cannot look it up; give the "
            "name that it has in timm.list_models(), after tu-, and its weights as encoder_weights=FILE"
        )
    known = _pretrained_weights(name)
    if known is None:
        models = [*timm.list_models(), *_find_tagged(name.removeprefix(TIMM))]
        every = [*smp.encoders.get_encoder_names(), *(TIMM + model for model in models)]
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
    """UsageError unless the network of a configuration can be made and learn from `batch_size` patches.

    Not every decoder can follow every encoder, some encoders can only read images of one size, and batch norm
    needs at least two values per channel. `batch_size` is the configuration's, or smaller where there are
    fewer training patches. To find out, the network takes a step on torch's device "meta", which computes
    shapes and no values. The message names a decoder or an encoder that does work.
    """
    require_encoder(config)
    reason = find_fault(config, batch_size)
    if reason is None:
        return
    pair = f"encoder={config.encoder}, decoder={config.decoder}"
    if "more than 1 value per channel" in reason:
        advice = "choose batch_size=2 or more, and an effective_batch_size of as much for each rank"
        if batch_size < config.batch_size:
            advice = "train on 2 patches or more"
        raise UsageError(f"{pair}: with 1 patch at once batch norm has a single value per channel; {advice}")
    raise UsageError(f"{pair}: {reason}; {_find_alternatives(config, batch_size)}")


def find_fault(config: Config, batch_size: int) -> str | None:
    """Why the network of a configuration cannot learn from `batch_size` patches at once; None if it can."""
    side = PATCH_SIZE // config.aerial_pooling
    try:
        network = UTT(encoder_weights=None, **model_options(config))
    except Exception as error:  # every family of encoders raises exceptions of its own
        return _shorten(error)
    try:
        logits = _take_step(network, batch_size, "meta")
    except Exception as error:
        reason = _shorten(error)
        if isinstance(error, NotImplementedError) or "meta" in reason:  # a layer that "meta" cannot run
            reason = _shorten(_fail_on_cpu(config, batch_size))
            if not reason:
                return None
        if "more than 1 value per channel" in reason:
            return reason
        return f"cannot read images of {side} x {side} pixels" + (f" ({reason})" if reason else "")
    rows, columns = logits.shape[-2:]
    if (rows, columns) != (side, side):
        return f"gives logits of {rows} x {columns} pixels for images of {side} x {side}"
    return None


def find_unread(config: Config) -> list[str]:
    """Names of the parameters that get no gradient, such as those of an unused classifier.

    Distributed training would wait for these gradients.
    """
    network = UTT(encoder_weights=None, **model_options(config))
    try:
        _take_step(network, 2, "meta")
    except NotImplementedError:
        return []
    gradients = {name: value.grad for name, value in network.named_parameters() if value.requires_grad}
    return [
        name
        for name, grad in gradients.items()
        if grad is None and not name.startswith(("utae.", "official_"))
    ]


class _StandIn(nn.Module):
    """Takes the place of the U-TAE, whose shapes depend on no encoder: the series is the embedding."""

    def forward(self, series: Tensor, days: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Embedding (B, 64, S, S) -> the same."""
        return series


def _take_step(network: UTT, batch_size: int, device: str) -> Tensor:
    """The aerial logits of empty patches, after the gradients of their sum."""
    if network.utae is not None:
        network.utae = _StandIn()  # type: ignore[assignment]
    network.to(device).train()
    aerial = torch.zeros(batch_size, len(BANDS), PATCH_SIZE, PATCH_SIZE, dtype=torch.uint8, device=device)
    embedding = torch.zeros(batch_size, WIDTHS[0], 10, 10, device=device)
    days, metadata = (torch.zeros(batch_size, size, device=device) for size in (1, SIZE))
    logits, _ = network.classify_aerial(aerial, embedding, days, metadata=metadata)
    logits.sum().backward()
    return logits


def _fail_on_cpu(config: Config, batch_size: int) -> Exception | None:
    """What goes wrong on the CPU, with no more patches than batch norm distinguishes; None if all is well."""
    try:
        _take_step(UTT(encoder_weights=None, **model_options(config)), min(batch_size, 2), "cpu")
    except Exception as error:
        return error
    return None


def _find_alternatives(config: Config, batch_size: int) -> str:
    """What works instead: another decoder, another encoder, or larger images."""
    tries: tuple[tuple[str, Sequence[str | int], str], ...] = (
        ("decoder", DECODERS_TO_TRY, "works with this encoder"),
        ("encoder", ENCODERS_TO_TRY, "works with this decoder"),
    )
    if found := [one for one in (_find_working(config, batch_size, *options) for options in tries) if one]:
        return ", ".join(found)
    larger = _find_working(config, batch_size, "aerial_pooling", (1,), "works with both")
    return larger or "choose another encoder"


def _find_working(config: Config, batch_size: int, key: str, values: Sequence[str | int], told: str) -> str:
    """The first value of a key, other than the present one, with which the network can learn; else ""."""
    for value in values:
        other = replace(config, encoder_weights=None, **{key: value})  # type: ignore[arg-type]
        if value == getattr(config, key) or find_impossible(other):
            continue
        if find_fault(other, batch_size) is None:
            return f"{key}={value} {told}"
    return ""


def _shorten(error: Exception | None) -> str:
    """The first line of an exception's message, which may be cut off, or our words for it."""
    if error is None:
        return ""
    reason = str(error.args[0] if error.args else error).split("\n")[0].rstrip(".")
    known = (plain for part, plain in PLAIN_REASONS.items() if part in reason)
    return next(known, reason[:LONGEST_REASON])


def make_network(config: Config) -> UTT:
    """The network of a configuration, with the encoder's pretrained weights if it names some.

    Weights in a file are read on rank 0 alone, and all ranks get them. UsageError when the encoder cannot be
    built; DataError when the file holds another's weights; OSError when published weights are neither cached
    nor downloadable.
    """
    weights = config.encoder_weights
    if names_file(weights):
        network = make_network(replace(config, encoder_weights=None))
        if rank() == 0:
            load_encoder(network.unet.encoder, Path(str(weights)), config.encoder)
        copy_from_rank_0(
            network.unet.encoder
        )  # DistributedDataParallel would leave the batch-norm statistics
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
    plain, _, tag = model.partition(".")
    if not timm.is_model(plain) or (tag and model not in _find_tagged(model)):
        return None
    return ["imagenet"] if timm.is_model_pretrained(model) else []


def _find_tagged(model: str) -> list[str]:
    """All names of a model of timm that say which weights it has, such as resnet18.a1_in1k."""
    return timm.list_models(model.partition(".")[0], include_tags=True)
