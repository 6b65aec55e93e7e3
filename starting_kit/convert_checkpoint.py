"""Convert a checkpoint of the official code (IGNF/FLAIR-2) into a run folder, which package.py takes.

OFFICIAL.ckpt is a Lightning checkpoint that the official training wrote, or the state dict of the network
(.pth, .safetensors), with or without metadata. The file does not say how its data were prepared: the
converter assumes monthly means of the clear dates, as in the published configuration, unless key=value
says otherwise. The run reads Sentinel-2 series as the official code does: with that code's cloud filter,
every date moved to 2021, every monthly mean dated to the 15th. Its logits then equal those of the
official model. DEPARTURES.md lists what this kit does otherwise on its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flair_baseline.checkpoint import STATE, WEIGHTS, save_model
from flair_baseline.config import load_config
from flair_baseline.official import convert, has_metadata, read_official
from flair_scoring.base.errors import UsageError, run_command
from flair_scoring.base.files import make_folder

# Keys of the configuration that follow from the checkpoint, or that the official code has one value of
DECIDED = ("official_layers", "metadata", "metadata_stages", "cloud_rule")


def main() -> None:
    """Read, rename, check, write; print the run folder."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/convert_checkpoint.py official.ckpt -o runs/official\n"
        "         python starting_kit/package.py runs/official -o runs/official.zip",
    )
    parser.add_argument("checkpoint", type=Path, metavar="OFFICIAL.ckpt")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="RUN", help="a folder without a run"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="as it was trained: cloud_filter=false, monthly_average=false, superpatch_size=N",
    )
    args = parser.parse_intermixed_args()
    if any((args.output / name).exists() for name in (WEIGHTS, STATE)):
        raise UsageError(f"{args.output}: holds a run already; choose another --output")
    if decided := [one for one in args.settings if one.partition("=")[0].strip() in DECIDED]:
        raise UsageError(f"{' '.join(decided)}: the checkpoint itself decides that; leave it out")
    tensors = read_official(args.checkpoint)
    network = ["official_layers=true", f"metadata={has_metadata(tensors)}", "metadata_stages=deepest"]
    config = load_config("utt_best", [*args.settings, *network, "cloud_rule=official"])
    model = convert(tensors, config, args.checkpoint)
    make_folder(args.output)
    save_model(args.output, model, config, epoch=0, metrics={})
    print(f"{len(tensors)} tensors, {'with' if config.metadata else 'no'} metadata", file=sys.stderr)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
