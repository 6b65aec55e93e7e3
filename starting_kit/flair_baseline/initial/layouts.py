"""Layouts of names in the weights of others, and the names of the same tensors in this kit.

A layout is found by names that only it has. What stands before the first of them belongs to wrappers
(`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, `net.` of hand-written
classes, several of them one inside the other) and is taken off, together with `module.` and `_orig_mod.`
inside the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from flair_baseline.initial.classes import Order
from flair_baseline.initial.tensor_files import explain_several
from flair_scoring.base.errors import DataError, list_names

LOSSES = "criterion"  # part of the names of the losses' tensors
WRAPPERS = {"module", "_orig_mod"}  # names that parallel and compiled modules give the module inside them
OFFICIAL = re.compile(r"(?<![^.])(arch_vhr|arch_hr|fm_utae_featmap_\w+|mtd_mlp|reshape_utae_output)\.")
MODALITY, TASK = "AERIAL_RGBI", "AERIAL_LABEL-COSIA"  # of FLAIR-HUB: what a network of ours can take over


@dataclass(frozen=True)
class Layout:
    """How one source names its tensors, and what its published configuration says of classes and pixels.

    Args:
        name: What the table calls it.
        anchor: Matches at the beginning of a name, where the wrappers end.
        renames: Patterns at the beginning of a name, and the beginning of our name; the first that fits.
        order: Of the classes of its head.
        pixels: Key of SCALINGS.
        inside: What must stand among the wrappers.
    """

    name: str
    anchor: re.Pattern[str]
    renames: tuple[tuple[str, str], ...]
    order: Order = "flair"
    pixels: str = "kit"
    inside: str = ""


_SMP = re.compile(r"(?<![^.])(encoder|decoder|segmentation_head)\.")
_SMP_NAMES = (
    (r"encoder\.", "unet.encoder."),
    (r"decoder\.", "unet.decoder."),
    (r"segmentation_head\.", "unet.segmentation_head."),
)
OFFICIAL_CODE, HUB, KIT, *_ = LAYOUTS = (
    Layout(
        "IGN's U-T&T (FLAIR-2)",
        OFFICIAL,
        (
            (r"arch_vhr\.", "unet."),
            (r"arch_hr\.(in_conv|out_conv)\.conv\.conv\.", r"utae.\1."),
            (r"arch_hr\.(down_blocks\.\d\.\w+|up_blocks\.\d\.conv\d)\.conv\.", r"utae.\1."),
            (r"arch_hr\.", "utae."),
            (r"fm_utae_featmap_cropped\.conv_list\.", "fusion.cropped."),
            (r"fm_utae_featmap_collapsed\.mlps\.", "fusion.collapsed."),
            (r"mtd_mlp\.enc_mlp\.", "metadata.mlp."),
            (r"reshape_utae_output\.1\.", "official_head."),
        ),
        pixels="0-1",
    ),
    Layout(
        "FLAIR-HUB",
        re.compile(r"(?<![^.])(encoders|main_decoders|aux_decoders|fusion_handler)\."),
        (
            (rf"encoders\.{MODALITY}\.seg_model\.", "unet.encoder."),
            (rf"main_decoders\.{TASK}\.seg_model\.decoder\.", "unet.decoder."),
            (rf"main_decoders\.{TASK}\.seg_model\.segmentation_head\.", "unet.segmentation_head."),
        ),
        order="cosia",
        pixels="flair-hub",
    ),
    Layout(
        "this kit",
        re.compile(r"(?<![^.])unet\.(encoder|decoder|segmentation_head)\."),
        ((r"(unet|utae|fusion|metadata|official_head)\.", r"\1."),),
    ),
    Layout(
        "FLAIR-1 and FLAIR-INC",
        _SMP,
        (*_SMP_NAMES, (r"enc\.enc_mlp\.", "metadata.mlp.")),
        pixels="flair-1",
        inside="seg_model.",
    ),
    Layout("segmentation_models.pytorch", _SMP, _SMP_NAMES),
)
_TRANSFORMERS = re.compile(r"(?<![^.])(decode_head|auxiliary_head)\.")


@dataclass(frozen=True)
class Named:
    """Tensors under our names, those that have none here under their own, and the layout that they had."""

    layout: Layout
    tensors: dict[str, Tensor]
    others: dict[str, Tensor]


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Named:
    """The tensors of a file under our names.

    Raises DataError when no layout fits, which says what the file seems to hold, and when it holds several
    networks.
    """
    losses = {name: tensor for name, tensor in tensors.items() if LOSSES in name.split(".")}
    own = {unwrap(name): tensor for name, tensor in tensors.items() if name not in losses}
    foreign = any(_TRANSFORMERS.search(name) for name in own)
    for layout in () if foreign else LAYOUTS:
        prefixes = {name[: found.start()] for name in own if (found := layout.anchor.search(name))}
        prefixes = {prefix for prefix in prefixes if layout.inside in prefix}
        if not prefixes:
            continue
        if len(prefixes) > 1:
            raise DataError(f"{path}: {explain_several(prefixes)}")
        return _rename(own, layout, prefixes.pop(), losses)
    what = "a network of transformers or mmsegmentation" if foreign else "no network of a known layout"
    raise DataError(
        f"{path}: holds {what} ({list_names(list(own), shown=3)}); --init-from takes runs of this kit, "
        "networks of segmentation_models.pytorch, and IGN's U-T&T, FLAIR-1, FLAIR-INC and FLAIR-HUB. The "
        "weights of an encoder alone are for encoder_weights=FILE."
    )


def unwrap(name: str) -> str:
    """A tensor's name without those of parallel and compiled modules."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _rename(own: Mapping[str, Tensor], layout: Layout, prefix: str, losses: Mapping[str, Tensor]) -> Named:
    named, others = {}, dict(losses)
    outer = prefix.removesuffix(layout.inside)
    for name, tensor in own.items():
        inner = name.removeprefix(prefix).removeprefix(outer)
        for pattern, ours in layout.renames:
            renamed, count = re.subn(f"^{pattern}", ours, inner)
            if count:
                named[renamed] = tensor
                break
        else:
            others[name] = tensor
    return Named(layout, named, others)
