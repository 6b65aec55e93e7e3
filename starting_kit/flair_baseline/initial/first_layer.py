"""The first layer of a given encoder, made to read our bands and our scaling of pixels."""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from flair_baseline.config import Config
from flair_baseline.initial.given import Given
from flair_baseline.initial.layouts import HUB
from flair_baseline.initial.matching import ENCODER, find_first_layers
from flair_baseline.initial.pixels import SCALINGS, Scaling, adapt_bands, make_scaling, rescale
from flair_baseline.initial.table import Outcome
from flair_baseline.model.utt import UTT
from flair_scoring.base.errors import UsageError

_SIDE, _TOLERANCE = 64, 1e-4  # pixels of the image on which layers are compared; share of the largest output
USUAL_BANDS = {3: "RVB", 4: "RVBI", 5: "RVBIE"}


def adapt_first_layer(outcome: Outcome, given: Given, model: UTT, config: Config) -> None:
    """Change the first layer in `outcome` so that it reads our bands, scaled as here; note what was done.

    Where several convolutions read the image, each of them is changed. Raises UsageError when the file does
    not tell its bands, or shares none with the configuration.
    """
    layers = find_first_layers(model.unet.encoder, ENCODER)
    weights = {name: outcome.loaded.get(f"{name}.weight") for name in layers}
    loaded = {name: weight for name, weight in weights.items() if weight is not None}
    if not loaded:
        return
    theirs, ours = find_bands(given, next(iter(loaded.values())).shape[1]), config.channels
    if not set(theirs) & set(ours):
        raise UsageError(f"{given.path}: reads the bands {theirs}, of which channels={ours} has none")
    outcome.notes.append(_explain_bands(theirs, ours))
    if theirs != ours:
        for name, weight in loaded.items():
            outcome.adapt(f"{name}.weight", adapt_bands(weight, theirs, ours))
    key = given.start.pixels or given.named.layout.pixels
    known, own = SCALINGS[key], _own_scaling(model, ours)
    if given.config is not None or known is None:
        outcome.notes.append(f"pixels: taken as scaled as here{_who_says(given, key)}")
        return
    shared = {band: known[band] for band in theirs if band in known and band in ours}
    if all(own[band] == pair for band, pair in shared.items()):
        outcome.notes.append(f"pixels: scaled as here{_who_says(given, key)}")
        return
    done = []
    for name in loaded:
        before = outcome.taken(f"{name}.weight")
        weight, constant = rescale(before, ours, shared, own)
        outcome.adapt(f"{name}.weight", weight)
        exactness = _compare(layers[name], ours, (before, {**own, **shared}), (weight, own), constant)
        done.append((exactness, _shift(outcome, model, name, layers[name], constant)))
    told = _explain_change(max(exactness for exactness, _ in done), min(shifted for _, shifted in done))
    outcome.notes.append(f"pixels: scaled as by {key} in the file{_who_says(given, key)}; {told}")
    if unknown := [band for band in theirs if band in ours and band not in known]:
        outcome.notes.append(f"pixels: how {', '.join(unknown)} was scaled is not known; taken as here")


def find_bands(given: Given, count: int) -> str:
    """The letters of the `count` bands that the file's first layer reads, or UsageError."""
    if given.config is not None:
        return given.config.channels
    bands = given.start.bands
    if bands is not None:
        if len(bands) != count:
            raise UsageError(f"--init-channels {bands}: the first layer of {given.path} reads {count} bands")
        return bands
    if given.named.layout is HUB and count == 3:
        raise UsageError(
            f"{given.path}: FLAIR-HUB has networks for red, green, blue and for infrared, red, green, and "
            "the file does not say which this is; give --init-channels RVB or IRV"
        )
    if count not in USUAL_BANDS:
        raise UsageError(
            f"{given.path}: its first layer reads {count} band{'s' if count != 1 else ''}; name "
            "them with --init-channels, in letters of RVBIE"
        )
    return USUAL_BANDS[count]


def _explain_bands(theirs: str, ours: str) -> str:
    told = f"bands: {theirs} in the file, {ours} here"
    if missing := [band for band in ours if band not in theirs]:
        told += f"; the weights of {', '.join(missing)} begin at 0"
    if unread := [band for band in theirs if band not in ours]:
        told += f"; those of {', '.join(unread)} are left out"
    return told


def _own_scaling(model: UTT, bands: str) -> Scaling:
    means, stds = (buffer.flatten().tolist() for buffer in (model.unet.means, model.unet.stds))
    return make_scaling(bands, means, stds)


def _who_says(given: Given, key: str) -> str:
    if given.config is not None:
        return ""
    if given.start.pixels is not None:
        return " (as --init-pixels says)"
    return " (the file does not say how)" if key == "kit" else " (as its published configuration says)"


class _Exactness(IntEnum):
    """Where a changed convolution computes what it computed before."""

    EVERYWHERE = 0
    INSIDE = 1
    NOWHERE = 2


class _Shifted(IntEnum):
    """What has taken the constant that a changed convolution needs."""

    NOTHING = 0
    BATCH_NORM = 1
    BIAS = 2


def _compare(
    layer: nn.Conv2d,
    bands: str,
    before: tuple[Tensor, Scaling],
    after: tuple[Tensor, Scaling],
    constant: Tensor,
) -> _Exactness:
    """Let a layer read an image with its weights before and after, each scaled as these weights need it.

    Its attributes do not tell: some layers pad images in a way of their own, and some standardise weights.
    """
    image = torch.rand(1, len(bands), _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)) * 255
    first, second = (
        functional_call(
            layer, {"weight": weight.to(layer.weight)}, _scale(image, bands, scaling, layer.weight)
        )
        for weight, scaling in (before, after)
    )
    difference = (second + constant.to(second)[:, None, None] - first).abs()
    rows, columns = (size // 4 for size in difference.shape[-2:])
    tolerance = _TOLERANCE * float(first.abs().max())
    if float(difference.max()) <= tolerance:
        return _Exactness.EVERYWHERE
    inside = difference[..., rows : -rows or None, columns : -columns or None]
    return _Exactness.INSIDE if float(inside.max()) <= tolerance else _Exactness.NOWHERE


def _scale(image: Tensor, bands: str, scaling: Scaling, like: Tensor) -> Tensor:
    means, stds = (
        torch.tensor(values)[:, None, None] for values in zip(*map(scaling.get, bands), strict=True)
    )
    return ((image - means) / stds).to(like)


def _shift(outcome: Outcome, model: UTT, name: str, layer: nn.Conv2d, constant: Tensor) -> _Shifted:
    """Add a constant (outputs,) to what a convolution computes, by its bias or the batch norm behind it."""
    if layer.bias is not None:
        outcome.adapt(f"{name}.bias", outcome.taken(f"{name}.bias").float() + constant)
        return _Shifted.BIAS
    modules = list(model.unet.encoder.named_modules(prefix=ENCODER))
    behind = [own for own, _ in modules].index(name) + 1
    following, norm = next(
        (own, one)
        for own, one in modules[behind:]
        if not own.startswith(f"{name}.") and (isinstance(one, _BatchNorm) or not list(one.children()))
    )
    beside = following.rpartition(".")[0] == name.rpartition(".")[0]
    if beside and isinstance(norm, _BatchNorm) and norm.num_features == len(constant):
        mean = f"{following}.running_mean"
        outcome.adapt(mean, outcome.taken(mean).float() - constant)
        return _Shifted.BATCH_NORM
    return _Shifted.NOTHING


def _explain_change(exactness: _Exactness, shifted: _Shifted) -> str:
    if exactness is _Exactness.NOWHERE:
        return (
            "the first layer takes the factors over, but standardises its weights and computes other numbers"
        )
    if shifted is _Shifted.NOTHING:
        return "the first layer takes the factors over, but has no bias for the shifts, which are left out"
    border = " but for the border of a patch, where it pads with zeros"
    with_norm = "the first layer and its batch norm are changed so that they compute the same"
    told = (
        with_norm
        if shifted is _Shifted.BATCH_NORM
        else "the first layer is changed so that it computes the same"
    )
    return told + (border if exactness is _Exactness.INSIDE else "")
