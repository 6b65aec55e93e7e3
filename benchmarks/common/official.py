"""The official model of the challenge, from a checkout of github.com/IGNF/FLAIR-2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from flair_scoring.base.errors import UsageError

EDITS = {  # what src/backbones/txt_model.py needs with a current smp
    'encoder_name="resnet34", ': 'encoder_name="resnet34", encoder_weights=None,',
    "decoder(*unet_utae_fmaps)": "decoder(unet_utae_fmaps)",
}


def load_official(flair2: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The official model without metadata, and its configuration.

    What had to be edited in the source is printed. Raises UsageError if the path is no checkout.
    """
    path = flair2 / "src/backbones/txt_model.py"
    if not path.is_file():
        raise UsageError(f"{path}: not there; --flair2 takes a checkout of github.com/IGNF/FLAIR-2")
    source = path.read_text(encoding="utf-8")
    for old, new in EDITS.items():
        print(f"{path}: {old!r} -> {new!r}", file=sys.stderr)
        source = source.replace(old, new)
    sys.path.insert(0, str(flair2))
    module: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), module)
    settings = yaml.safe_load((flair2 / "flair-2-config.yml").read_text(encoding="utf-8"))
    settings["aerial_metadata"] = False
    return module["TimeTexture_flair"](settings), settings
