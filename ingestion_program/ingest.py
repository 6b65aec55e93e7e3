"""Run a submission on the FLAIR #2 test set: it predicts the patches, and the time that it takes is measured.

OUTPUT gets predictions/PRED_*.tif, ids.txt, timing.json and manifest.json.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent
if (PROGRAM.parent / "scoring_program").is_dir():  # in the bundle, flair_scoring lies beside this file
    sys.path.append(str(PROGRAM.parent / "scoring_program"))

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

require_linux()

from flair_ingestion.clock import clock  # noqa: E402
from flair_ingestion.dataset import SPLITS, index_patches, sample_patches  # noqa: E402
from flair_ingestion.devices.device import choose_device, exclusive_use, require_idle  # noqa: E402
from flair_ingestion.limits import read_limits  # noqa: E402
from flair_ingestion.measurement import Conditions, series_lengths  # noqa: E402
from flair_ingestion.predictions import Spool, check_output, write_output  # noqa: E402
from flair_ingestion.reference import SEED, open_reference  # noqa: E402
from flair_ingestion.run import Plan, run_ingestion  # noqa: E402
from flair_ingestion.sandbox.policy import LEVELS, describe_level, require_hidden  # noqa: E402
from flair_scoring.base.errors import UsageError, run_command  # noqa: E402

KEY = PROGRAM / "signing.key"
WORKER_DATA = Path("/app/data")  # where a worker of the platform shows its own folder
RENAMED = ("--require-cage", "--require-sandbox")  # the old name is still accepted in this version
SEED_BITS = 53  # every reader of JSON keeps integers of 53 bits exactly


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python ingestion_program/ingest.py /data/flair2 submission.zip output --split val",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the FLAIR #2 archives, unpacked")
    parser.add_argument("submission", type=Path, metavar="SUBMISSION", help="zip or folder with model.py")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="absent, empty, or an earlier output")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
    parser.add_argument("--subset", type=int, metavar="N", help="N patches, drawn evenly from all domains")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--limit-ratio", type=float, metavar="R", help="limit: R times the reference's time; 0: no such limit"
    )
    parser.add_argument("--limit-seconds", type=float, metavar="S", help="limit: S seconds of inference")
    parser.add_argument(
        "--reference", type=Path, metavar="DIR", help="default: the kit's reference_submission/"
    )
    parser.add_argument("--limits", type=Path, metavar="FILE", help="its keys replace those of limits.yaml")
    parser.add_argument(
        "--reference-cache", type=Path, metavar="DIR", help="keep the reference's time here, for later runs"
    )
    parser.add_argument(
        "--require-sandbox",
        choices=LEVELS,
        default="none",
        help="do not run in a weaker sandbox; "
        "python ingestion_program/flair_ingestion/sandbox/runner.py --probe shows what it denies here",
    )
    parser.add_argument(
        "--order-seed",
        type=int,
        metavar="N",
        help="order of the patches: `order_seed` in timing.json of an earlier run",
    )
    parser.add_argument(
        "--platform",
        action="store_true",
        help="run as on the platform: OUTPUT is emptied, then filled and signed",
    )
    old, new = RENAMED
    words = [new + word.removeprefix(old) if word.startswith(old) else word for word in sys.argv[1:]]
    if words != sys.argv[1:]:
        print(f"note: {old} is now called {new}; later versions refuse the old name", file=sys.stderr)
    args = parser.parse_args(words)
    if args.subset is not None and args.subset < 1:
        parser.error(f"--subset {args.subset}: expected at least 1")
    if args.order_seed is not None and args.platform:
        parser.error("--order-seed with --platform: on the platform nobody may know the order beforehand")
    if args.order_seed is not None and args.order_seed < 0:
        parser.error(f"--order-seed {args.order_seed}: expected 0 or more, as timing.json has it")
    return args


def take_key() -> bytes | None:
    """The key that signs OUTPUT, or None; its file is removed, so that no submission finds it."""
    if not KEY.is_file():
        print(f"note: no {KEY.name} beside ingest.py; the output will not be signed", file=sys.stderr)
        return None
    try:
        key = KEY.read_bytes()
        KEY.unlink()
    except OSError as error:
        raise UsageError(
            f"{KEY}: cannot be read and removed ({error.strerror}), so a submission could read it; mount the "
            "program so that it can be written"
        ) from None
    return key


def require_worker_data(data: Path) -> None:
    """Raises UsageError, which names the setting, if a worker of the platform lacks the data."""
    if data.is_relative_to(WORKER_DATA) and not data.is_dir():
        below = data.relative_to(WORKER_DATA)
        raise UsageError(
            f"{data}: no such folder on this worker; copy what build.py wrote as worker_data/{below} to "
            f"HOST_DIRECTORY/data/{below}, where HOST_DIRECTORY is the folder in the worker's .env"
        )


def main() -> None:
    """Check the command line, run the submission, write OUTPUT and print the verdict."""
    args = parse_arguments()
    key = take_key() if args.platform else None
    limits = read_limits(args.limits).with_options(args.limit_ratio, args.limit_seconds)
    check_output(args.output, [args.data, args.submission, PROGRAM], args.platform)
    if args.platform:
        require_worker_data(args.data)
    require_hidden(args.data)
    device = choose_device(args.device)
    patches = index_patches(args.data, args.split)
    if args.subset and args.subset < len(patches):
        patches = sample_patches(patches, args.subset, SEED)
    reference = open_reference(args.reference, limits.submission_mib) if limits.ratio else None
    lengths = series_lengths(patches)
    seed = secrets.randbits(SEED_BITS) if args.order_seed is None else args.order_seed
    plan = Plan(args.submission, reference, seed, args.reference_cache, strict=args.platform)
    with exclusive_use(device):
        require_idle(device)
        conditions = Conditions(device, limits, clock() + limits.wall_seconds, args.require_sandbox, lengths)
        with Spool(len(patches), limits.max_attempts) as spool:
            result = run_ingestion(plan, patches, conditions, spool)
            if level := result.timing["sandbox"]:
                print(f"sandbox: {describe_level(level, device.kind == 'cuda')}", file=sys.stderr)
            write_output(args.output, result.timing, result.predictions, key, args.platform)
    if result.error:
        raise result.error
    verdict = f"{result.timing['verdict']}: {result.timing['reason']}"
    print(f"{verdict}; {len(patches)} patches on {device.name or device.kind}")
    print(f"predictions: {args.output / 'predictions'}")


if __name__ == "__main__":
    run_command(main)
