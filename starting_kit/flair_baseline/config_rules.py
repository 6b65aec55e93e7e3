"""The rules that a training configuration must keep beyond the types of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import PATCH_SIZE

if TYPE_CHECKING:
    from flair_baseline.config import Config

BANDS = "RVBIE"  # of the aerial patches
ONE_BLOCK_PER_WIDTH = ("unet", "unetplusplus", "manet")  # decoders that use all numbers of decoder_channels
MOST_ATTENTIVE_PIXELS = 64**2  # of manet's deepest stage
_MINIMA = {
    "aerial_pooling": 1,
    "weight_decay": 0,
    "plateau_patience": 0,
    "stopping_patience": 1,
    "epochs": 1,
    "batch_size": 1,
    "effective_batch_size": 1,
    "seed": 0,
    "workers": 0,
    "warmup_steps": 0,
    "clip_gradients": 0,
}
LOSSES = ("cross_entropy", "dice", "lovasz", "focal")  # that `loss` may add up


def find_impossible(config: Config) -> list[str]:
    """One sentence for each value, or pair of values, that no run can have; each names its key first."""
    problems = [
        f"{key}: {getattr(config, key)} is below {bound}"
        for key, bound in _MINIMA.items()
        if getattr(config, key) < bound
    ]
    for key in ("aerial_class_weights", "satellite_class_weights"):
        weights = getattr(config, key)
        if len(weights) != len(FLAIR_12.classes_with_other) or min(weights) < 0 or max(weights) == 0:
            problems.append(
                f"{key}: expected {len(FLAIR_12.classes_with_other)} numbers from 0 on, not all 0"
            )
    if not 0 <= config.modality_dropout < 1:
        problems.append(f"modality_dropout: {config.modality_dropout} is not from 0 to below 1")
    for key in ("photometric", "rare_classes"):
        if not 0 <= getattr(config, key) <= 1:
            problems.append(f"{key}: {getattr(config, key)} is not from 0 (off) to 1")
    if not config.learning_rate > 0:
        problems.append(f"learning_rate: {config.learning_rate} is not above 0")
    if config.superpatch_size % 8 or not 16 <= config.superpatch_size <= 104:
        problems.append(f"superpatch_size: {config.superpatch_size} is no multiple of 8 from 16 to 104")
    batch, step = max(config.batch_size, 1), config.effective_batch_size
    if step % batch:
        problems.append(f"effective_batch_size: {step} is no multiple of batch_size {batch}")
    letters = config.channels
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(BANDS):
        problems.append(
            f"channels: {letters!r:.80} is no selection of R (red), V (green), B (blue), I (infrared) and E "
            "(elevation), each at most once; expected for example RVB, IVB or RVBIE"
        )
    return problems + _find_impossible_decoders(config) + _find_impossible_steps(config)


def _find_impossible_decoders(config: Config) -> list[str]:
    """What the decoder's widths and the size of its images rule out."""
    decoder, widths, pooling = config.decoder, config.decoder_channels, max(config.aerial_pooling, 1)
    listed = decoder in ONE_BLOCK_PER_WIDTH
    if not 1 <= len(widths) <= 5 or min(widths) < 1:
        return ["decoder_channels: expected 1 to 5 positive numbers, deepest first"]
    problems = []
    halvings = len(widths) if listed else 4 if decoder == "dpt" else 5
    if PATCH_SIZE % (pooling * 2**halvings):
        reason = "once for each of decoder_channels" if listed else f"as decoder {decoder} needs it"
        problems.append(
            f"aerial_pooling: {PATCH_SIZE} / {pooling} cannot be halved {halvings} times, {reason}"
        )
    if decoder == "fpn" and widths[0] % 64:
        problems.append(
            f"decoder_channels: decoder fpn needs a multiple of 64 as the first number, not {widths[0]}"
        )
    pixels = (PATCH_SIZE // (pooling * 2**halvings)) ** 2
    if decoder == "manet" and pixels > MOST_ATTENTIVE_PIXELS:
        problems.append(
            f"decoder_channels: with {halvings} numbers decoder manet compares {pixels} pixels with each "
            f"other, which needs {4 * pixels**2 / 2**30:.0f} GiB a patch; give 3 numbers or more"
        )
    return problems


def _find_impossible_steps(config: Config) -> list[str]:
    """What the keys of loss, average and schedule rule out."""
    problems = []
    if unknown := [name for name in config.loss if name not in LOSSES]:
        problems.append(f"loss: {', '.join(unknown)} is none of {', '.join(LOSSES)}")
    if min(config.loss.values(), default=0) < 0 or max(config.loss.values(), default=0) <= 0:
        problems.append("loss: expected weights from 0 on, not all 0, such as {cross_entropy: 1, dice: 0.5}")
    for key in ("label_smoothing", "ema"):
        if not 0 <= getattr(config, key) < 1:
            problems.append(f"{key}: {getattr(config, key)} is not from 0 to below 1")
    if config.label_smoothing > 0 and not config.satellite and not config.loss.get("cross_entropy"):
        problems.append(
            "label_smoothing: acts on cross_entropy alone, which loss leaves out; choose label_smoothing=0, "
            "or give cross_entropy a weight"
        )
    if config.warmup_steps > 0 and config.schedule != "cosine":
        problems.append(
            f"warmup_steps: {config.warmup_steps} needs schedule=cosine; with {config.schedule} choose "
            "warmup_steps=0"
        )
    return problems
