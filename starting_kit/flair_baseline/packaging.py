"""Pack a checkpoint and the code that runs it into a submission, as the platform takes it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import flair_baseline
from flair_baseline import model
from flair_baseline.checkpoint import find_weights, read_config
from flair_baseline.config import Config, model_options
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder, write_file
from flair_scoring.base.provenance import SCHEMA
from flair_scoring.nomenclature import FLAIR_12

MODEL = '''"""U-T&T of the FLAIR #2 starting kit; flair_baseline/model/inference.py holds the code."""

from flair_baseline.model import inference


class Model(inference.Model):
    bfloat16 = False  # True: faster on GPUs and CPUs that compute in bfloat16; a few labels change
    compiled = False  # True: torch.compile; faster still, minutes of warm-up
'''
_OTHER_ARCHIVES = {".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar"}
NO_SATELLITE_WINDOW = 10  # pixels, the smallest window; a submission cannot ask for none


def pack_checkpoint(run_or_checkpoint: Path, batch_size: int) -> dict[str, bytes]:
    """The files of the submission for a trained model: path -> content.

    The weights keep the header in which train.py wrote configuration, commit, versions and metrics. Raises
    UsageError or DataError when `run_or_checkpoint` is no checkpoint.
    """
    weights = find_weights(run_or_checkpoint)
    settings = _describe(read_config(weights), batch_size)
    return _pack(settings) | {"weights.safetensors": weights.read_bytes()}


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
    """The content of config.json."""
    return {
        "schema": SCHEMA,
        "nomenclature": FLAIR_12.name,
        "model": model_options(config),
        "cloud_filter": config.cloud_filter,
        "cloud_rule": config.cloud_rule,
        "monthly_average": config.monthly_average,
        "superpatch_size": config.superpatch_size if config.satellite else NO_SATELLITE_WINDOW,
        "batch_size": batch_size,
    }


def _pack(settings: dict[str, Any]) -> dict[str, bytes]:
    """All files but the weights: the folder flair_baseline/model, model.py and the descriptions."""
    options = settings["model"]
    name = "U-T&T" if options["satellite"] else "U-Net"
    if options["decoder"] != "unet":
        name = f"{options['decoder']} with U-TAE" if options["satellite"] else options["decoder"]
    description = f"description: {name} of the starting kit, encoder {options['encoder']}\n"
    kit = Path(flair_baseline.__file__).parent
    modules = [kit / "__init__.py", *sorted(Path(model.__file__).parent.glob("*.py"))]
    return {path.relative_to(kit.parent).as_posix(): path.read_bytes() for path in modules} | {
        "model.py": MODEL.encode(),
        "config.json": (json.dumps(settings, indent=2) + "\n").encode(),
        "metadata.yaml": description.encode(),
    }


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path)  # its date is 1980-01-01
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, files[path])
    return buffer.getvalue()
