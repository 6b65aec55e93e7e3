"""Train the baseline, or one of your own configurations, on FLAIR #2 or on the toy data set.

RUN gets model.safetensors and model.json (the epoch with the best validation mIoU), last.pt (to resume),
log.csv and curves.png; where TensorBoard is installed, also its event files. The domains of the validation
are never trained on. Under torchrun several processes, on one machine or more, share every step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flair_baseline.config import Config, describe_keys, find_config, load_config
from flair_baseline.initial.classes import LISTS
from flair_baseline.initial.given import Start
from flair_baseline.initial.pixels import SCALINGS, check_bands
from flair_baseline.machines.distributed import joined_ranks, rank
from flair_baseline.machines.failures import explained_failures
from flair_baseline.machines.interruption import advice_if_interrupted, command_that_goes_on
from flair_baseline.machines.machine import choose_device, keep_freed_memory
from flair_baseline.training.estimate import Estimate, estimate_run
from flair_baseline.training.estimate_text import describe_concerns, describe_estimate
from flair_baseline.training.loop import train
from flair_ingestion.dataset import require_data
from flair_scoring.base.errors import UsageError, run_command


def main() -> None:
    """Read the configuration, train, print the best epoch."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The keys of a configuration, their defaults (the paper's plain U-T&T) and their values;\n"
        f"flair_baseline/config.py explains each of them:\n{describe_keys()}\n\n"
        "example: python starting_kit/train.py --data /data/flair2 --config utt_best batch_size=5\n"
        "         python starting_kit/train.py --data DATA --config unet --init-from runs/a --output runs/b\n"
        "         torchrun --nproc-per-node 4 starting_kit/train.py --data /data/flair2 --config utt_best",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the FLAIR #2 archives, unpacked"
    )
    parser.add_argument(
        "--config", required=True, metavar="NAME_OR_PATH", help="unet, utt_best, demo … or a YAML file"
    )
    parser.add_argument(
        "--output", type=Path, metavar="RUN", help="default: runs/<name of the configuration>"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in RUN, bit for bit on the CPU and on GPUs with deterministic=true; "
        "if RUN holds no run, begin one; with schedule=plateau it may get more epochs than before, "
        "for example --resume epochs=40",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="measure a few steps on this machine, say what the run will take, and write nothing into RUN",
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="FILE_OR_RUN",
        help="begin with given weights: a run of this kit, IGN's U-T&T, FLAIR-1, FLAIR-INC or FLAIR-HUB, a "
        "segmentation_models.pytorch model (.safetensors, .pth, .ckpt); a table tells what was taken",
    )
    parser.add_argument(
        "--init-channels",
        metavar="LETTERS",
        help="bands that the file's first layer reads, such as IRV; default: RVB, RVBI or RVBIE by number",
    )
    parser.add_argument(
        "--init-classes",
        choices=tuple(LISTS),
        help="order of the classes of the file's head; default: cosia for FLAIR-HUB, otherwise flair",
    )
    parser.add_argument(
        "--init-pixels",
        choices=tuple(SCALINGS),
        help="how the file's network was fed: as here (kit), with the published statistics of FLAIR-1 or "
        "FLAIR-HUB, or divided by 255; default: by the layout of its names",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example epochs=3 encoder_weights=null"
    )
    args = parser.parse_intermixed_args()
    start = None
    if args.init_from is not None:
        if args.init_channels is not None:
            check_bands(args.init_channels)
        start = Start(args.init_from, args.init_channels, args.init_classes, args.init_pixels)
    elif said := [option for option in ("channels", "classes", "pixels") if getattr(args, f"init_{option}")]:
        raise UsageError(f"--init-{said[0]} tells about the file of --init-from, which is missing")

    config = load_config(args.config, args.overrides)
    run = args.output or Path("runs") / find_config(args.config).stem
    if choose_device(config.device).type == "cpu":
        keep_freed_memory()
    require_data(args.data)
    if args.estimate:
        with joined_ranks(), explained_failures():
            if rank() == 0 and args.resume:
                print("note: --estimate measures a new run, not that of --resume", file=sys.stderr)
            print_estimate(estimate_run(config, args.data, start), config)
        return
    advice = f"finished epochs are kept; this command goes on: {command_that_goes_on('--resume')}"
    with joined_ranks(), explained_failures(), advice_if_interrupted(advice if rank() == 0 else ""):
        best = train(config, args.data, run, args.resume, start)
        if rank() == 0:
            print(f"{run}: validation mIoU {best['val_miou']:.4f} in epoch {best['epoch']:.0f}")


def print_estimate(estimate: Estimate, config: Config) -> None:
    """Print the estimate to stdout, and what should be changed to stderr."""
    if rank() == 0:
        print(*describe_estimate(estimate, config), sep="\n")
        for concern in describe_concerns(estimate, config):
            print(f"warning: {concern}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
