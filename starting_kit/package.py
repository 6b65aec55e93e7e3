"""Pack trained models into a submission: model.py, its code, config.json, metadata.yaml and the weights.

Several models make an ensemble, which averages their probabilities. --tta adds views of each patch: flips
are the patch as it is, flipped both ways and turned by half; d4 are all eight flips and turns. Each view
costs the time of a whole prediction. --untrained packs a configuration instead of a trained model, to time a
network before it is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flair_baseline.config import load_config
from flair_baseline.encoders import check_network
from flair_baseline.model.views import VIEWS
from flair_baseline.packaging import (
    EXPECTED_WEIGHTS,
    Member,
    can_average,
    check_size,
    pack_ensemble,
    pack_untrained,
    refuse_input,
    write_submission,
)
from flair_scoring.base.errors import UsageError, run_command

LARGEST_BATCH = 32


def main() -> None:
    """Read the checkpoints, write the submission, print its path."""
    args = parse_arguments()
    refuse_input(args.output, list(map(Path, args.checkpoint)))
    if args.untrained:
        config = load_config(args.checkpoint[0])
        check_network(config, batch_size=2)
        files = pack_untrained(config, args.batch_size)
    else:
        weights = args.weights or [1.0] * len(args.checkpoint)
        pairs = zip(args.checkpoint, weights, strict=True)
        members = [Member(Path(checkpoint), args.tta, weight) for checkpoint, weight in pairs]
        files = pack_ensemble(members, args.batch_size, args.one_at_a_time)
    check_size(files)
    write_submission(args.output, files)
    print(f"{len(files)} files, {sum(map(len, files.values())) / 2**20:.1f} MiB", file=sys.stderr)
    if len(args.checkpoint) > 1:
        sizes = [len(content) / 2**20 for path, content in files.items() if path.endswith(".safetensors")]
        held = max(sizes) if args.one_at_a_time else sum(sizes)
        print(f"{len(sizes)} members; on the device at once: weights of {held:.1f} MiB", file=sys.stderr)
    print(args.output)


def parse_arguments() -> argparse.Namespace:
    """The command line; options that contradict each other are refused."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/package.py runs/utt_best -o runs/utt_best.zip\n"
        "         python starting_kit/package.py runs/a runs/b --weights 2 1 --tta flips -o runs/both.zip\n"
        "         python starting_kit/package.py utt_best --untrained -o runs/timing.zip",
    )
    parser.add_argument("checkpoint", nargs="+", metavar="RUN_OR_CHECKPOINT", help="what train.py wrote")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="NAME.zip, which replaces an older one, or a new folder",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="patches per request, default: %(default)s"
    )
    parser.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="how much each model counts, in the order of the models; default: all the same",
    )
    parser.add_argument(
        "--tta", choices=list(VIEWS), default="none", help="views of each patch, default: %(default)s"
    )
    parser.add_argument(
        "--one-at-a-time",
        action="store_true",
        help="keep the weights of one model at a time on the GPU; each request copies all of them",
    )
    parser.add_argument(
        "--untrained", action="store_true", help="pack a configuration (name or path), no weights"
    )
    args = parser.parse_args()
    if not 1 <= args.batch_size <= LARGEST_BATCH:
        raise UsageError(
            f"--batch-size {args.batch_size}: the platform gives 1 to {LARGEST_BATCH} patches at once"
        )
    if args.weights and len(args.weights) != len(args.checkpoint):
        raise UsageError(f"--weights: {len(args.weights)} numbers for {len(args.checkpoint)} models")
    if args.weights and not can_average(args.weights):
        given = " ".join(f"{weight:g}" for weight in args.weights)
        raise UsageError(f"--weights {given}: {EXPECTED_WEIGHTS}")
    unfit = len(args.checkpoint) > 1 or args.weights or args.tta != "none" or args.one_at_a_time
    if args.untrained and unfit:
        raise UsageError("--untrained: packs one configuration, without --weights, --tta and --one-at-a-time")
    if args.one_at_a_time and len(args.checkpoint) == 1:
        raise UsageError("--one-at-a-time: expected several models, and one is given; leave the option out")
    return args


if __name__ == "__main__":
    run_command(main)
