"""Pack a trained model into a submission: model.py, its code, config.json, metadata.yaml and the weights.

--untrained packs a configuration instead of a trained model, to time a network before it is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flair_baseline.config import load_config
from flair_baseline.encoders import check_network
from flair_baseline.packaging import pack_checkpoint, pack_untrained, write_submission
from flair_scoring.base.errors import UsageError, run_command

LARGEST_BATCH = 32


def main() -> None:
    """Read the checkpoint, write the submission, print its path."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/package.py runs/utt_best -o runs/utt_best.zip\n"
        "         python starting_kit/package.py utt_best --untrained -o runs/timing.zip",
    )
    parser.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT", help="what train.py wrote")
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
        "--untrained", action="store_true", help="pack a configuration (name or path), no weights"
    )
    args = parser.parse_args()
    if not 1 <= args.batch_size <= LARGEST_BATCH:
        raise UsageError(
            f"--batch-size {args.batch_size}: the platform gives 1 to {LARGEST_BATCH} patches at once"
        )

    if args.untrained:
        config = load_config(args.checkpoint)
        check_network(config, batch_size=2)
        files = pack_untrained(config, args.batch_size)
    else:
        files = pack_checkpoint(Path(args.checkpoint), args.batch_size)
    write_submission(args.output, files)
    print(f"{len(files)} files, {sum(map(len, files.values())) / 2**20:.1f} MiB", file=sys.stderr)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
