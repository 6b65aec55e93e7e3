"""Checkpoints: weights with their provenance, and the state from which a run continues."""

from __future__ import annotations

import io
import json
import math
import platform
import reprlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from flair_baseline.config import Config, make_config, to_dict
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import write_file
from flair_scoring.base.provenance import check_stamp, stamp
from flair_scoring.nomenclature import FLAIR_12

WEIGHTS = "model.safetensors"
STATE = "last.pt"
PROVENANCE = "model.json"
_BEGINNINGS = (  # first bytes of other files, and what such a file is
    (b"version https://git-lfs", "it is a git-lfs pointer: download the file itself"),
    (b"PK", "it is a zip, or torch.save wrote it"),
    (b"\x80", "pickle or torch.save wrote it"),
    (b"{", "it is JSON"),
    (b"<", "it is a web page"),
)
_HEAD = "unet.segmentation_head."
LIBRARIES = ("torch", "segmentation-models-pytorch", "numpy", "safetensors")


def save_model(
    run: Path,
    model: nn.Module,
    config: Config,
    epoch: int,
    metrics: Mapping[str, float],
    recorded: Mapping[str, Any] | None = None,
) -> None:
    """Write RUN/model.safetensors, and RUN/model.json, which repeats its header for human readers.

    The header also has what is `recorded` of the run's beginning, by its name: class weights that were
    measured, the weights that it was given.
    """
    versions = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    provenance = stamp() | {
        "config": to_dict(config),
        "epoch": epoch,
        "metrics": {key: None if math.isnan(value) else value for key, value in metrics.items()},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": versions,
        **(recorded or {}),
    }
    text = json.dumps(provenance, indent=2, allow_nan=False)
    write_file(run / WEIGHTS, save(copy_tensors(model), metadata={"provenance": text}))
    write_file(run / PROVENANCE, text + "\n")


def copy_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model by name, on the CPU.

    Some encoders, such as CoaT, use a layer under several names. safetensors does not write tensors that
    share their memory, so every further name gets a copy.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in seen:
            tensors[name] = tensors[name].clone()
        seen.add(tensor.data_ptr())
    return tensors


def find_weights(run_or_checkpoint: Path) -> Path:
    """RUN/model.safetensors, or the checkpoint itself; raises UsageError when there is neither."""
    path = run_or_checkpoint / WEIGHTS if run_or_checkpoint.is_dir() else run_or_checkpoint
    if path.name == STATE:
        raise UsageError(
            f"{path}: is the state from which --resume goes on; give its folder {path.parent}, which has the "
            f"model in {WEIGHTS}"
        )
    if not path.is_file():
        raise UsageError(
            f"{path}: no such checkpoint; expected a folder that train.py wrote, or a .safetensors file"
        )
    return path


def read_provenance(weights: Path) -> dict[str, Any]:
    """The header of a checkpoint: stamp, config, epoch, metrics, versions; DataError for another file."""
    try:
        weights.open("rb").close()  # safetensors calls every file absent that it cannot open
        with safe_open(weights, framework="pt") as file:
            provenance = json.loads(file.metadata()["provenance"])
        check_stamp(provenance, weights)
        dict(provenance["config"])
        if (found := provenance.get("nomenclature", FLAIR_12.name)) != FLAIR_12.name:
            raise DataError(
                f"{weights}: its classes are of the nomenclature {reprlib.repr(found)}, and this kit "
                f"trains and packs {FLAIR_12.name}; take a checkpoint of that nomenclature"
            )
    except OSError as error:
        reason = str(error.strerror or error)
    except SafetensorError:
        reason = describe_content(weights)
        if "torch.save" in reason:
            reason += "; convert_checkpoint.py turns a checkpoint of IGN's code into one"
    except (LookupError, TypeError, ValueError, AttributeError):
        reason = "its header does not name a configuration"
    else:
        return provenance
    raise DataError(
        f"{weights}: not a checkpoint of this kit: {reason}; expected a folder that train.py wrote, or its "
        f"{WEIGHTS}"
    )


def read_config(weights: Path) -> Config:
    """The configuration that a checkpoint was trained with."""
    return make_config(read_provenance(weights)["config"], str(weights))


def count_classes(weights: Path) -> int:
    """How many classes the aerial branch of a checkpoint tells apart; 0 when the file has no such branch."""
    with safe_open(weights, framework="pt") as file:
        names = list(file.keys())
        layers = [name for name in names if name.startswith(_HEAD) and name.endswith(".weight")]
        return int(file.get_slice(max(layers)).get_shape()[0]) if layers else 0  # max: the last layer


def save_state(run: Path, state: Mapping[str, Any]) -> None:
    """Write RUN/last.pt: plain values and tensors that `read_state` gives back."""
    buffer = io.BytesIO()
    torch.save(stamp() | dict(state), buffer)
    write_file(run / STATE, buffer.getvalue())


def read_state(run: Path) -> dict[str, Any]:
    """The state in RUN/last.pt, on the CPU; raises DataError when it is damaged or of another schema."""
    path = run / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_stamp(state, path)
        if not {"config", "model", "optimizer", "scheduler", "rows"} <= state.keys():
            raise KeyError
        dict(**state["config"])
    except DataError:
        raise
    except Exception as error:
        reason = explain_unreadable(error)
        raise DataError(f"{path}: cannot be read ({reason}); start again with another --output") from error
    return state


def describe_content(path: Path) -> str:
    """What a file seems to be that is not a checkpoint, judged by its first bytes."""
    with path.open("rb") as file:
        start = file.read(32)
    if not start:
        return "it is empty"
    known = [reason for beginning, reason in _BEGINNINGS if start.lstrip().startswith(beginning)]
    if known and not begins_as_safetensors(start):
        return known[0]
    return "it is damaged, or another program wrote it"


def begins_as_safetensors(start: bytes) -> bool:
    """Whether these first bytes of a file can be those of a .safetensors file.

    Such a file begins with the length of its header, in eight bytes, and with the header, which is JSON. The
    first bytes of that length may be those of a pickle or of a zip.
    """
    return start[4:9] == b"\0\0\0\0{"


def explain_unreadable(error: Exception) -> str:
    """Why torch.load failed, without its long advice: the system's reason, or that the file is damaged."""
    if isinstance(error, OSError) and error.filename:
        return str(error.strerror)
    return "it is damaged, or another program wrote it"
