"""The file of --init-from: read, its layout found, refused where the configuration needs another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from flair_baseline.checkpoint import STATE, WEIGHTS, read_config
from flair_baseline.config import Config
from flair_baseline.initial.classes import Order
from flair_baseline.initial.layouts import KIT, OFFICIAL_CODE, Named, recognise
from flair_baseline.initial.matching import ENCODER, part_of
from flair_baseline.initial.tensor_files import read_tensors
from flair_scoring.base.errors import UsageError

EXPECTED = "the tensors of a network by name"


@dataclass(frozen=True)
class Start:
    """The file of --init-from, and what its user says of it where the file itself does not.

    Args:
        path: A run folder, its model.safetensors, or a file of others.
        bands: Letters of the bands that its first layer reads, in their order.
        order: Of the classes of its head: a key of classes.LISTS.
        pixels: How its pixels were scaled: a key of pixels.SCALINGS.
    """

    path: Path
    bands: str | None = None
    order: Order | None = None
    pixels: str | None = None


@dataclass(frozen=True)
class Given:
    """A file that was read: its tensors under our names, and the configuration if it is a run of ours."""

    start: Start
    path: Path
    sha256: str
    named: Named
    config: Config | None

    @property
    def has_encoder(self) -> bool:
        """Whether the aerial encoder is in the file; encoder_weights are then of no use."""
        return any(part_of(name) == ENCODER for name in self.named.tensors)


def read_start(start: Start, config: Config) -> Given:
    """Read the file of --init-from and find the layout of its names.

    Raises UsageError when there is no such file, or when it needs another configuration; DataError when it
    holds no network of a known layout.
    """
    path = start.path / WEIGHTS if start.path.is_dir() else start.path
    if path.name == STATE:
        raise UsageError(f"{path}: is the state from which --resume goes on; give its folder {path.parent}")
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; --init-from takes a folder that train.py wrote, or a file such as "
            "model.safetensors, model.pth or model.ckpt"
        )
    tensors = read_tensors(path, EXPECTED)
    named = recognise(tensors, path)
    source = read_config(path) if named.layout is KIT and _names_configuration(path) else None
    _require_same_layers(path, named, source, config)
    if source is not None:
        _require_nothing_else(start, path, source)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Given(start, path, digest, named, source)


def _names_configuration(path: Path) -> bool:
    """Whether train.py wrote the file: it then has a header with the configuration."""
    try:
        with safe_open(path, framework="pt") as file:
            return "provenance" in (file.metadata() or {})
    except SafetensorError:
        return False  # torch.save wrote it


def _require_nothing_else(start: Start, path: Path, source: Config) -> None:
    """UsageError when the user says of a run of this kit what its configuration denies."""
    said = {
        "--init-channels": (start.bands, source.channels),
        "--init-classes": (start.order, KIT.order),
        "--init-pixels": (start.pixels, KIT.pixels),
    }
    if wrong := [f"{option} {one}" for option, (one, own) in said.items() if one not in (None, own)]:
        raise UsageError(
            f"{' and '.join(wrong)}: {path} is of a run of this kit, whose bands ({source.channels}), "
            f"classes and pixels are known; leave {'these options' if len(wrong) > 1 else 'the option'} out"
        )


def _require_same_layers(path: Path, named: Named, source: Config | None, config: Config) -> None:
    """UsageError when only one of file and configuration has the official code's layers."""
    if named.layout is OFFICIAL_CODE and not config.official_layers:
        metadata = any(part_of(name) == "metadata" for name in named.tensors)
        also = ", metadata=true and metadata_stages=deepest" if metadata else ""
        raise UsageError(
            f"{path}: is IGN's U-T&T, which has other layers than the paper's and counts days otherwise; "
            f"give official_layers=true{also}"
        )
    official = source.official_layers if source is not None else _has_official_layers(named)
    if official is not None and official != config.official_layers:
        told = str(official).lower()
        raise UsageError(
            f"{path}: its network was made with official_layers={told}, which counts days and scales pixels "
            f"otherwise; give official_layers={told}"
        )


def _has_official_layers(named: Named) -> bool | None:
    """What tensors of this kit tell without a configuration: nothing where there is no satellite branch."""
    parts = {part_of(name) for name in named.tensors}
    return "official_head" in parts if named.layout is KIT and "utae" in parts else None
