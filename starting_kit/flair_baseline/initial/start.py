"""Start a run from given weights: match a file with the network, take over what fits, tell it all."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from flair_baseline.config import Config, to_dict
from flair_baseline.initial.first_layer import adapt_first_layer
from flair_baseline.initial.given import Given
from flair_baseline.initial.guess import guess_encoder
from flair_baseline.initial.head import adapt_head
from flair_baseline.initial.layouts import HUB, MODALITY, OFFICIAL_CODE
from flair_baseline.initial.matching import (
    DECODER,
    ENCODER,
    find_first_layers,
    find_unusable,
    match_parts,
    part_of,
)
from flair_baseline.initial.table import Outcome
from flair_baseline.model.architectures import encoder_depth
from flair_baseline.model.sentinel import REFLECTANCE_ONE
from flair_baseline.model.utt import UTT
from flair_scoring.base.errors import DataError, list_names, list_problems

FIRST_SATELLITE_LAYER = "utae.in_conv.0.weight"
_SHAPING = ("decoder", "decoder_channels", "aerial_pooling")  # keys on which an encoder's tensors depend, too
_OTHER_ENCODER = re.compile(r"(?<![^.])encoders\.([^.]+)\.")  # of FLAIR-HUB, for other sensors


@torch.no_grad()
def start_from(given: Given, model: UTT, config: Config) -> Outcome:
    """Take over into the model what fits; returns what became of every tensor.

    Raises DataError when the encoder is another network's, when a tensor holds numbers that are not finite,
    and when nothing fits; UsageError when the file does not tell something that --init-... must say.
    """
    ours, theirs = model.state_dict(), given.named.tensors
    first = [f"{name}.weight" for name in find_first_layers(model.unet.encoder, ENCODER)]
    match = match_parts(theirs, ours, first)
    _require_encoder(given, config, match.reasons)
    _require_usable(given, {name: one for name, one in ours.items() if part_of(name) not in match.reasons})
    outcome = Outcome(given.path.name, given.sha256, given.named.layout.name)
    outcome.loaded = {name: tensor.to(ours[name].dtype) for name, tensor in match.taken.items()}
    adapt_first_layer(outcome, given, model, config)
    if FIRST_SATELLITE_LAYER in outcome.loaded and given.named.layout is OFFICIAL_CODE:
        weight = outcome.loaded[FIRST_SATELLITE_LAYER] * reflectance_factor(config)
        outcome.adapt(FIRST_SATELLITE_LAYER, weight)
        outcome.notes.append("series: the first satellite layer is changed so that it reads reflectances")
    adapt_head(outcome, given, ours, match.reasons)
    inputs = sorted({found[1] for name in given.named.others if (found := _OTHER_ENCODER.search(name))})
    if given.named.layout is HUB and inputs and DECODER not in match.reasons:
        outcome.notes.append(
            f"{DECODER}: in the file it reads features of {MODALITY} fused with {', '.join(inputs)}, here "
            "those of the aerial encoder alone"
        )
    outcome.notes += [
        f"{part} {_explain_absence(part, config)}: {why}" for part, why in match.reasons.items()
    ]
    used = outcome.loaded | outcome.adapted
    _require_something(given, used)
    outcome.drawn = {name: tensor for name, tensor in ours.items() if name not in used}
    outcome.left = {name: tensor for name, tensor in theirs.items() if name not in used} | given.named.others
    model.load_state_dict(ours | used)
    return outcome


def reflectance_factor(config: Config) -> float:
    """What the weights of the official first satellite layer are multiplied by to read reflectances.

    The official code feeds monthly means of Sentinel-2 as digital numbers, and single dates as fractions of
    65535.
    """
    return REFLECTANCE_ONE * (1 if config.monthly_average else 1 / 65535)


def _explain_absence(part: str, config: Config) -> str:
    if part == ENCODER and config.encoder_weights is not None:
        return f"has the weights of encoder_weights={config.encoder_weights}"
    return "is drawn anew"


def _require_encoder(given: Given, config: Config, reasons: Mapping[str, str]) -> None:
    """DataError when the file has an encoder which is not the configuration's."""
    if not given.has_encoder or ENCODER not in reasons:
        return
    prefix = ENCODER + "."
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in given.named.tensors.items()
        if name.startswith(prefix)
    }
    looks = guess_encoder(tensors) if given.config is None else given.config.encoder
    stages = encoder_depth(config.decoder, config.decoder_channels)
    what, advice = f"it has other layers than {config.encoder}", "give the encoder of the file"
    if looks is not None and looks != config.encoder:
        what, advice = f"it is that of {looks}", f"give encoder={looks}"
    elif given.config is not None:
        then, now = to_dict(given.config), to_dict(config)
        differ = [f"{key}={then[key]}" for key in _SHAPING if then[key] != now[key]]
        what, advice = f"its run has {', '.join(differ)}", "give the same"
    raise DataError(
        f"{given.path}: its encoder does not fit encoder={config.encoder} with {stages} stages "
        f"({reasons[ENCODER]}): {what}; {advice}"
    )


def _require_something(given: Given, used: Mapping[str, Tensor]) -> None:
    if not used:
        held = list_names(list(given.named.tensors | given.named.others), shown=3)
        raise DataError(
            f"{given.path}: nothing in it fits the configuration; its names have the layout of "
            f"{given.named.layout.name}, but it holds only {held}"
        )


def _require_usable(given: Given, ours: Mapping[str, Tensor]) -> None:
    if problems := find_unusable(given.named.tensors, ours):
        raise DataError(list_problems(f"{given.path}: weights that cannot be used", problems))
