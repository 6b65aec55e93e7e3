"""Pack a checkpoint and the code that runs it into a submission, as the platform takes it."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flair_baseline
from flair_baseline import model
from flair_baseline.checkpoint import WEIGHTS, count_classes, find_weights, read_config
from flair_baseline.config import Config, model_options
from flair_baseline.model.views import VIEWS
from flair_ingestion.limits import read_limits
from flair_scoring.base.errors import DataError, FlairError, UsageError, list_problems
from flair_scoring.base.files import make_folder, write_file
from flair_scoring.base.provenance import SCHEMA
from flair_scoring.nomenclature import FLAIR_12

MODEL = '''"""U-T&T of the FLAIR #2 starting kit; flair_baseline/model/inference.py holds the code."""

from flair_baseline.model import inference


class Model(inference.Model):
    bfloat16 = False  # True: faster on GPUs and CPUs that compute in bfloat16; a few labels change
    compiled = False  # True: torch.compile; faster still, minutes of warm-up
    staged = False  # True: copies and series are made ready by the GPU itself; the labels stay the same
    graphs = False  # True: CUDA graphs, and staged; less work for the processor between the steps
'''
ENSEMBLE = '''"""An ensemble of the FLAIR #2 starting kit; flair_baseline/model/ensemble.py holds the code."""

from flair_baseline.model import ensemble


class Model(ensemble.Model):
    bfloat16 = False  # True: faster on GPUs and CPUs that compute in bfloat16; a few labels change
    staged = False  # True: copies and series are made ready by the GPU itself; the labels stay the same
'''
_OTHER_ARCHIVES = {".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar"}
EXPECTED_WEIGHTS = "expected finite numbers from 0 on whose sum is above 0"
NO_SATELLITE_WINDOW = 10  # pixels, the smallest window; a submission cannot ask for none


def pack_checkpoint(run_or_checkpoint: Path, batch_size: int) -> dict[str, bytes]:
    """The files of the submission for a trained model: path -> content.

    The weights keep the header in which train.py wrote configuration, commit, versions and metrics. Raises
    UsageError or DataError when `run_or_checkpoint` is no checkpoint.
    """
    weights, config = read_member(run_or_checkpoint)
    return _pack(_describe(config, batch_size)) | {"weights.safetensors": weights.read_bytes()}


def read_member(run_or_checkpoint: Path) -> tuple[Path, Config]:
    """The weights of a trained model, and their configuration.

    Raises UsageError or DataError when it is no checkpoint, or when its network has other classes.
    """
    _refuse_circle(_locate_weights(run_or_checkpoint))
    weights = find_weights(run_or_checkpoint)
    _require_utf8(weights)
    config = read_config(weights)
    expected, found = len(FLAIR_12.classes_with_other), count_classes(weights)
    if found != expected:
        raise DataError(
            f"{weights}: its network has {found} classes, and a submission predicts the {expected} of "
            f"{FLAIR_12.name}; train a network with these, from this one with train.py --init-from"
        )
    return weights, config


@dataclass(frozen=True)
class Member:
    """A trained network of an ensemble.

    `checkpoint` is a run or its weights. `views` is a name of `flair_baseline.model.views.VIEWS`. `weight` is
    a number, or one for each of the 13 classes; only the ratios of the members' weights matter.
    """

    checkpoint: Path
    views: str = "none"
    weight: float | tuple[float, ...] = 1.0


def pack_ensemble(
    members: Sequence[Member], batch_size: int, one_at_a_time: bool = False
) -> dict[str, bytes]:
    """The files of the submission that averages the probabilities of trained models: path -> content.

    A single member without further views is packed as by `pack_checkpoint`. Raises UsageError or DataError
    that names all checkpoints that are none, and UsageError for weights that cannot be averaged.
    """
    problems = _find_impossible(members)
    if len(members) == 1 and members[0].views == "none" and not problems:
        return pack_checkpoint(members[0].checkpoint, batch_size)
    files: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []
    for number, member in enumerate(members, 1):
        try:
            weights, config = read_member(member.checkpoint)
            entry = _describe_member(config)
        except FlairError as error:
            problems.append(str(error))
            continue
        name = f"member_{number}.safetensors"
        files[name] = weights.read_bytes()
        entries.append(entry | {"weights": name, "views": member.views})
    if problems:
        raise UsageError(problems[0] if len(problems) == 1 else list_problems("the ensemble", problems))
    shares = _share_weights(members)
    settings = {
        "schema": SCHEMA,
        "nomenclature": FLAIR_12.name,
        "batch_size": batch_size,
        "superpatch_size": max(entry["superpatch_size"] for entry in entries),
        "one_at_a_time": one_at_a_time,
        "members": [entry | {"weight": share} for entry, share in zip(entries, shares, strict=True)],
    }
    kinds = ", ".join(dict.fromkeys(str(entry["model"]["encoder"]) for entry in entries))
    views = sum(len(VIEWS[member.views]) for member in members)
    description = f"{len(members)} networks of the starting kit, {views} views, encoders {kinds}"
    return files | _pack_code(ENSEMBLE, settings, description)


def _find_impossible(members: Sequence[Member]) -> list[str]:
    """Sentences on weights that cannot be averaged, and on checkpoints that are given twice."""
    problems = []
    if not can_average([member.weight for member in members]):
        given = ", ".join(str(member.weight) for member in members)
        problems.append(f"weights {given}: {EXPECTED_WEIGHTS}, for each class if they are by class")
    files = [resolve_weights(member.checkpoint) for member in members]
    pairs = zip(members, files, strict=True)
    if twice := sorted({os.path.realpath(one.checkpoint) for one, file in pairs if files.count(file) > 1}):
        problems.append(f"given twice: {', '.join(twice)}; a higher weight does the same in less time")
    return problems


def can_average(weights: Sequence[float | tuple[float, ...]]) -> bool:
    """Whether the weights of all members are finite, and above 0 for one member at least, in each class."""
    by_class = _weights_by_class(weights)
    return bool(np.isfinite(by_class).all() and by_class.min() >= 0 and by_class.max(axis=0).min() > 0)


def resolve_weights(run_or_checkpoint: Path) -> Path:
    """The file that holds the weights, by its one true path; whether it is there does not matter."""
    # Path.resolve would fail at links in a circle
    return Path(os.path.realpath(_locate_weights(run_or_checkpoint)))


def _locate_weights(run_or_checkpoint: Path) -> Path:
    return run_or_checkpoint / WEIGHTS if run_or_checkpoint.is_dir() else run_or_checkpoint


def _refuse_circle(weights: Path) -> None:
    """Raises UsageError for symbolic links that lead back to themselves."""
    try:
        weights.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{weights}: its symbolic links lead in a circle; expected a folder that train.py wrote, or "
                "a .safetensors file"
            ) from None


def _require_utf8(weights: Path) -> None:
    """Raises UsageError for a path that safetensors cannot open."""
    try:
        str(weights).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{weights}: this path is not UTF-8, and safetensors opens no such path; rename the "
            "folder or file"
        ) from None


def _share_weights(members: Sequence[Member]) -> list[Any]:
    """Weights whose sum over the members is 1, for each class if a member has weights by class."""
    weights = _weights_by_class([member.weight for member in members])
    if not any(isinstance(member.weight, tuple) for member in members):
        weights = weights[:, 0]
    weights = weights / weights.max(axis=0)  # the sum of very large weights would be infinite
    return list((weights / weights.sum(axis=0)).tolist())


def _weights_by_class(weights: Sequence[float | tuple[float, ...]]) -> np.ndarray:
    """float64 (members, 13)."""
    classes = len(FLAIR_12.classes_with_other)
    return np.array([np.broadcast_to(weight, classes) for weight in weights], np.float64)


def pack_untrained(config: Config, batch_size: int) -> dict[str, bytes]:
    """The files of the submission for an untrained model: it can be timed, but its labels mean nothing."""
    return _pack(_describe(config, batch_size) | {"untrained_seed": config.seed})


def check_target(target: Path) -> None:
    """Raises UsageError unless `write_submission` can write to `target`; makes the folder above it."""
    if target.suffix.lower() in _OTHER_ARCHIVES:
        raise UsageError(f"{target}: a submission is a zip or a folder; give a name that ends in .zip")
    taken = target.is_dir() if _is_zip(target) else target.exists()
    if taken and (_is_zip(target) or not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: give a name that ends in .zip, or a folder that is empty or new")
    make_folder(target.parent)


def refuse_input(target: Path, inputs: Sequence[Path]) -> None:
    """Raises UsageError when a submission at `target` would replace one of the files that it is made of.

    `inputs` are runs, checkpoints or configurations. Links lead to the same file.
    """
    for path in inputs:
        file = _locate_weights(path)
        if target.exists() and file.exists() and target.samefile(file):
            raise UsageError(f"{target}: is the input {path}, which it would replace; choose another output")


def check_size(files: dict[str, bytes]) -> None:
    """Raises UsageError when the files are larger than a submission may be."""
    mib, limit = sum(map(len, files.values())) / 2**20, read_limits().submission_mib
    if mib > limit:
        largest = sorted(files, key=lambda path: -len(files[path]))[:3]
        told = ", ".join(f"{path} {len(files[path]) / 2**20:.0f} MiB" for path in largest)
        raise UsageError(
            f"the submission has {mib:.0f} MiB, and at most {limit:g} are allowed (submission_mib); leave "
            f"out a member or train smaller ones. The largest files: {told}"
        )


def write_submission(target: Path, files: dict[str, bytes]) -> None:
    """Write the files of a submission to a zip or into a folder.

    A zip replaces an older one of its name. The same files make the same zip, byte for byte: its order and
    date are fixed, and nothing is compressed. A folder must be empty or new; after an error it is removed.
    """
    check_target(target)
    if _is_zip(target):
        contents = {target: _zip(files)}
    else:
        contents = {target / path: content for path, content in files.items()}
    try:
        for path, content in contents.items():
            write_file(path, content)
    except BaseException:
        if not _is_zip(target):
            shutil.rmtree(target, ignore_errors=True)  # it was empty or new
        raise


def _is_zip(target: Path) -> bool:
    return target.suffix.lower() == ".zip"


def _describe(config: Config, batch_size: int) -> dict[str, Any]:
    """The content of config.json for a single network."""
    common = {"schema": SCHEMA, "nomenclature": FLAIR_12.name}
    return common | _describe_member(config) | {"batch_size": batch_size}


def _describe_member(config: Config) -> dict[str, Any]:
    """What config.json says of one network."""
    return {
        "model": model_options(config),
        "cloud_filter": config.cloud_filter,
        "cloud_rule": config.cloud_rule,
        "monthly_average": config.monthly_average,
        "superpatch_size": config.superpatch_size if config.satellite else NO_SATELLITE_WINDOW,
    }


def _pack(settings: dict[str, Any]) -> dict[str, bytes]:
    """All files of a single network but the weights."""
    options = settings["model"]
    name = "U-T&T" if options["satellite"] else "U-Net"
    if options["decoder"] != "unet":
        name = f"{options['decoder']} with U-TAE" if options["satellite"] else options["decoder"]
    return _pack_code(MODEL, settings, f"{name} of the starting kit, encoder {options['encoder']}")


def _pack_code(model_py: str, settings: dict[str, Any], description: str) -> dict[str, bytes]:
    """The folder flair_baseline/model, model.py and the descriptions."""
    kit = Path(flair_baseline.__file__).parent
    modules = [kit / "__init__.py", *sorted(Path(model.__file__).parent.glob("*.py"))]
    return {path.relative_to(kit.parent).as_posix(): path.read_bytes() for path in modules} | {
        "model.py": model_py.encode(),
        "config.json": (json.dumps(settings, indent=2) + "\n").encode(),
        "metadata.yaml": f"description: {description}\n".encode(),
    }


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path)  # its date is 1980-01-01
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, files[path])
    return buffer.getvalue()
