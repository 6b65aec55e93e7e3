"""Training configurations: one flat record, read from YAML, changed by `key=value` on the command line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from flair_baseline.config_rules import find_impossible
from flair_baseline.official_keys import RENAMED, WITHOUT_COUNTERPART
from flair_scoring.base.errors import UsageError, list_problems
from flair_scoring.base.files import read_file
from flair_scoring.base.settings import parse_settings, similar_key

_MAX_BYTES = 1 << 20  # of a configuration
_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "configs"  # setup.py puts a copy of starting_kit/configs there
FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent / "configs"
Decoder = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pan",
    "upernet",
    "segformer",
    "deeplabv3plus",
    "dpt",
]


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on except the data. The defaults are the paper's plain U-T&T."""

    # the model
    encoder: str = "resnet34"  # any of segmentation_models.pytorch, or tu-<name> of timm
    # the name of published weights, which are downloaded once, or a local file with those of the encoder
    # (.safetensors, .pth); null: they are drawn
    encoder_weights: str | None = "imagenet"
    # Channels of the decoder, deepest first. unet, unetplusplus and manet have one block for each number, and
    # the encoder as many stages. All other decoders follow an encoder of five stages (dpt: four layers of a
    # vision transformer) and have a single width, the first number: upernet, segformer, deeplabv3plus, pan;
    # fpn, whose last layers have half of it; dpt, which also has layers of two and four times that width.
    # linknet has the encoder's widths and uses no number.
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    aerial_pooling: int = 1  # 2: the U-Net works at 0.4 m instead of 0.2 m
    satellite: bool = True  # False: the U-Net alone
    metadata: bool = False  # the U-Net's encoder reads date, time, position and camera
    metadata_stages: Literal["every", "deepest"] = "every"  # as in the paper or as in the official code
    official_layers: bool = False  # the official code's layers and days of the year, for its checkpoints
    # of segmentation_models.pytorch; dpt follows vision transformers only, such as tu-vit_small_patch16_224
    decoder: Decoder = "unet"

    # the data
    # The bands that the model reads, in any selection and order: R red, V green, B blue, I near infrared,
    # E elevation. IGN's CoSIA has an overall accuracy of 85.2, 85.7 and 86.2 % with RVB, RVBI and RVBIE.
    channels: str = "RVBIE"
    superpatch_size: int = 40  # side of the Sentinel-2 window in 10 m pixels, a multiple of 8
    cloud_filter: bool = False
    cloud_rule: Literal["paper", "official"] = "paper"  # which dates the filter leaves out
    monthly_average: bool = False
    augmentation: bool = False
    # 0 to 1: how much the light of training patches changes. 0: not at all; 1: brightness and contrast by
    # up to 30 %, the hue by up to 18 degrees (samples/photometry.py says how); elevation stays
    photometric: float = 0.0
    # 0 to 1: how much more often training patches with rare classes are drawn (samples/rarity.py has the
    # formula). 0: each patch once in an epoch
    rare_classes: float = 0.0
    permute_dates: bool = False  # for an ablation: the dates of a series are shuffled, its images are not
    # two lists of domains are published: the data card's has D077_2021, FLAIR #1's has D070_2020 instead
    validation: Literal["data_card", "flair_1"] = "data_card"

    # the training; class weights are in the order of the class indices 0..12
    aerial_class_weights: tuple[float, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0)
    satellite_class_weights: tuple[float, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.001  # with one_cycle and cosine the highest
    weight_decay: float = 0.0
    modality_dropout: float = 0.0  # share of the steps that leave the satellite branch out; 0.5 in the paper
    # bf16, fp16: autocast; weights and losses stay float32. fp16 scales the loss; when a gradient overflows,
    # it skips the step and halves the scale, and log.csv counts the skipped_steps.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    schedule: Literal["plateau", "one_cycle", "cosine"] = "plateau"  # training/schedules.py has the formulas
    plateau_patience: int = 10  # epochs without a lower validation loss before the rate is reduced
    stopping_patience: int = 30  # epochs without a lower validation loss before training ends
    epochs: int = 100
    batch_size: int = 10  # patches in memory at once; fewer where a rank's share of a step is smaller
    effective_batch_size: int = 120  # patches per step over all ranks; the paper's 12 GPUs with 10 each
    # the loss of the aerial branch, a sum of losses times these weights: cross_entropy, exact over all ranks;
    # dice, lovasz, focal, of each batch of each rank (training/region_losses.py). The satellite branch, whose
    # logits have 10 x 10 cells, always learns by its cross-entropy. The validation loss is the same sum.
    loss: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0}, hash=False)
    label_smoothing: float = 0.0  # of the cross-entropies of both branches, in the validation loss as well
    # balanced: each listed class weight times the inverse frequency of its class in the training labels,
    # capped (training/class_balance.py has the formula); measured once, kept in last.pt and model.json
    class_weights: Literal["listed", "balanced"] = "listed"
    # decay of a moving average of weights and batch-norm statistics over the steps, 0 for none; the average
    # is validated and kept as the model (training/averaging.py)
    ema: float = 0.0
    warmup_steps: int = 0  # of schedule=cosine: steps in which the rate rises to learning_rate
    clip_gradients: float = 0.0  # longest gradient of a step (2-norm over all weights), 0 for no limit

    # the machine
    # A run with the same seed, and one that --resume continues, give the same numbers bit for bit: always on
    # the CPU; on GPUs of one kind with deterministic=true, which is slower.
    seed: int = 2022
    deterministic: bool = False
    workers: int = 8  # processes that read data, at most one per core; with 0 the main process reads
    device: Literal["auto", "cpu", "cuda"] = "auto"


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> Config:
    """A named configuration of the kit or a YAML file, changed by `key=value` overrides (values are YAML).

    Raises UsageError that lists every unknown key, wrong type and impossible value together.
    """
    return make_config(read_values(name_or_path) | parse_overrides(overrides), name_or_path)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Unchecked values of `key=value` texts, or UsageError."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        try:
            values[key] = parse_settings(text)
        except ValueError as error:
            problems.append(f"{override!r}: {error}")
        if not equals:
            problems.append(
                f"{override!r} is not of the form key=value, for example epochs=3; "
                "a value with spaces needs quotes"
            )
    if problems:
        raise UsageError(list_problems("changes of the configuration", problems))
    return values


def find_config(name_or_path: str) -> Path:
    """The file of a configuration: a path that exists, or a name in starting_kit/configs/, or UsageError."""
    named = FOLDER / f"{name_or_path}.yaml"
    for path in (Path(name_or_path), named):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
    raise UsageError(f"no configuration {name_or_path!r}: neither a file nor one of {names}")


def read_values(name_or_path: str) -> dict[str, Any]:
    """Unchecked values of a named configuration of the kit or a YAML file, or UsageError."""
    path = find_config(name_or_path)
    try:
        values = parse_settings(read_file(path, _MAX_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected a YAML file") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}; expected lines of key: value") from error
    if values is None:  # a file of comments only: all defaults
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected lines of key: value, found a {type(values).__name__}")
    return values


def make_config(values: dict[str, Any], source: str) -> Config:
    """A checked Config from plain values; UsageError names the `source` and all that is wrong."""
    types = get_type_hints(Config)
    problems, all_keys = _explain_unknown([key for key in values if key not in types], types)
    converted: dict[str, Any] = {}
    failed: set[str] = set()
    for key in [key for key in values if key in types]:
        try:
            converted[key] = _convert(values[key], types[key])
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{key}: {values[key]!r:.80} is not {_describe(types[key])}")
            failed.add(key)
    config = Config(**converted)
    # `config` has the default of each key that failed: a problem that names such a key may not exist
    problems += [one for one in find_impossible(config) if failed.isdisjoint(re.findall(r"\w+", one))]
    if problems:
        raise UsageError(list_problems(f"configuration {source}", problems) + all_keys)
    return config


def describe_keys() -> str:
    """One line for each key of a configuration: its name, its default as YAML, what it may hold."""
    lines = []
    defaults = Config()
    for key, kind in get_type_hints(Config).items():
        default = getattr(defaults, key)
        text = default if isinstance(default, str) else json.dumps(default)
        lines.append(f"  {key:<23} {text:<24}   {_describe(kind)}")
    return "\n".join(lines)


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain values, for YAML and JSON; `make_config` reads them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def model_options(config: Config) -> dict[str, Any]:
    """The arguments of `UTT`, without the pretrained weights: enough to build the network again."""
    keys = (
        *("encoder", "decoder_channels", "aerial_pooling", "satellite"),
        *("metadata", "metadata_stages", "official_layers", "channels", "decoder"),
    )
    return {key: value for key, value in to_dict(config).items() if key in keys}


def _explain_unknown(unknown: Sequence[Any], known: Iterable[str]) -> tuple[list[str], str]:
    """The problems of unknown keys, and a line with all keys if an unknown key resembles none of them."""
    problems: list[str] = []
    similar = {key: similar_key(key, known) for key in unknown}
    for key in unknown:
        if key in RENAMED:
            problems.append(f"{key}: a key of IGN's configurations; here it is {RENAMED[key]}")
        elif key not in WITHOUT_COUNTERPART:
            problems.append(
                f"unknown key {key!r}" + (f"; did you mean {similar[key]!r}?" if similar[key] else "")
            )
    if foreign := [key for key in unknown if key in WITHOUT_COUNTERPART]:
        problems.append(
            f"keys of IGN's configurations that have none here: {', '.join(foreign)}; leave them out, and "
            "name folders and machines on the command line"
        )
    unlike = [key for key in unknown if not similar[key] and key not in RENAMED.keys() | WITHOUT_COUNTERPART]
    return problems, f"\nthe keys are {', '.join(known)}" if unlike else ""


def _convert(value: Any, kind: Any) -> Any:
    """`value` as the annotated type of its key; TypeError or ValueError when it does not fit."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(_convert(item, get_args(kind)[0]) for item in value)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise TypeError
        return {_convert(name, str): _convert(one, float) for name, one in value.items()}
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if kind == str | None:
        absent = value is None or (isinstance(value, str) and value.lower() in ("none", "null", "~", ""))
        return None if absent else _convert(value, str)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        value = float(value)  # YAML reads 1e-3 as text
    if type(value) is not kind:
        raise TypeError
    if (kind is float and not math.isfinite(value)) or (kind is int and abs(value) >= 2**63):
        raise ValueError
    return value


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "a list of whole numbers" if get_args(kind)[0] is int else "a list of numbers"
    if get_origin(kind) is dict:
        return "a mapping of names to numbers, such as {cross_entropy: 1, dice: 0.5} with its spaces"
    return {
        bool: "true or false",
        int: "a whole number below 2**63",
        float: "a finite number",
        str: "a text",
    }.get(kind, "a text or null")
