"""The networks of segmentation_models.pytorch (smp): any of its decoders after any encoder of smp or timm.

What an encoder needs to know, the side of its images and whether its strides become dilations, is found out
here, so that a checkpoint's configuration is enough to build its network again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch

STAGES = 5  # of an encoder whose depth the decoder's widths do not say; the deepest has stride 32
TOKENS = 4  # layers of a vision transformer that decoder dpt reads
TIMM = "tu-"  # before names of timm
# these decoders have one block for each of their widths, deepest first: as many as the encoder has stages
LISTED = ("unet", "unetplusplus", "manet")
_DEEP = range(2, STAGES + 1)
# the stages that a decoder reads, where these are not all; stage 0 is the input itself
_READ = {"fpn": _DEEP, "upernet": _DEEP, "pan": _DEEP, "deeplabv3plus": (2, STAGES)}
_MODELS = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "fpn": smp.FPN,
    "pan": smp.PAN,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "dpt": smp.DPT,
}


def encoder_depth(decoder: str, widths: Sequence[int]) -> int:
    """How many stages of the encoder a network has; dpt's are layers of a vision transformer."""
    return len(widths) if decoder in LISTED else TOKENS if decoder == "dpt" else STAGES


def stages_read(decoder: str, counts: Sequence[int]) -> list[int]:
    """The stages that a decoder reads, of an encoder whose stages have so many channels, the input included.

    Some encoders have a placeholder without channels as stage 1.
    """
    read = _READ.get(decoder, range(1, len(counts)))
    return [stage for stage in read if counts[stage] > 0]


def make_smp_network(
    decoder: str,
    encoder: str,
    weights: str | None,
    widths: Sequence[int],
    bands: int,
    classes: int,
    side: int,
) -> Any:
    """A network of smp with `encoder`, `decoder` and `segmentation_head`; its images have side x side pixels.

    `widths` are the channels of the decoder's blocks, deepest first, as many as the encoder shall have stages
    (unet, unetplusplus, manet). The other decoders have one width, the first number, and linknet takes its
    widths from the encoder. Every exception of smp and timm can be raised.
    """
    options = _width_options(decoder, widths)
    if decoder == "pan" and not _can_be_dilated(encoder):
        options["encoder_output_stride"] = 32  # instead of smp's 16
    if needs_image_size(encoder, side):
        options["img_size"] = side
    with warnings.catch_warnings():
        # smp advises another use of the prefix tokens where a vision transformer has none
        warnings.filterwarnings("ignore", "Encoder does not have prefix tokens", UserWarning)
        network = _MODELS[decoder](
            encoder_name=encoder,
            encoder_depth=encoder_depth(decoder, widths),
            encoder_weights=weights,
            in_channels=bands,
            classes=classes,
            **options,
        )
    if decoder == "dpt" and hasattr(network.encoder.model, "prune_intermediate_layers"):
        # nothing reads the layers of the classifier, and distributed training would wait for their gradients
        last = [network.encoder._output_indices[-1]]
        network.encoder.model.prune_intermediate_layers(last, prune_norm=True, prune_head=True)
    return network


def _width_options(decoder: str, widths: Sequence[int]) -> dict[str, Any]:
    """The widths under the names that smp gives them."""
    first = widths[0]
    if decoder in LISTED:
        return {"decoder_channels": tuple(widths)}
    if decoder == "linknet":
        return {}
    if decoder == "fpn":  # smp's own widths, here and for dpt, have these proportions
        return {"decoder_pyramid_channels": first, "decoder_segmentation_channels": first // 2}
    if decoder == "dpt":
        inner = (first, 2 * first, 4 * first, 4 * first)
        return {"decoder_fusion_channels": first, "decoder_intermediate_channels": inner}
    return {"decoder_segmentation_channels" if decoder == "segformer" else "decoder_channels": first}


@cache
def needs_image_size(encoder: str, side: int) -> bool:
    """Whether an encoder of timm reads images of side x side pixels only if it is made for that side.

    It runs on torch's device "meta", which computes shapes and no values.
    """
    if not encoder.startswith(TIMM):
        return False
    name = encoder.removeprefix(TIMM)
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is not None and not known.fixed_input_size:
        return False
    image = torch.zeros(1, 3, side, side, device="meta")
    tries: tuple[tuple[dict[str, Any], bool], ...] = (({}, False), ({"img_size": side}, True))
    for options, answer in tries:
        try:
            with torch.device("meta"):
                model = timm.create_model(name, features_only=True, **options)
            model.eval()(image)
        except NotImplementedError:
            return False  # a layer that "meta" cannot run
        except Exception:  # every family of encoders raises exceptions of its own
            continue
        return answer
    return False


@cache
def _can_be_dilated(encoder: str) -> bool:
    """Whether the deepest stage of an encoder can have stride 16 instead of 32."""
    try:
        smp.encoders.get_encoder(encoder, output_stride=16)
    except Exception:  # every family of encoders raises exceptions of its own
        return False
    return True
