"""Build the competition bundle: competition.yaml, its pages, the programs with all they import, the data.

With --check nothing is built: the bundle is examined for whatever the platform would refuse, ignore or break.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
sys.path += [str(KIT / program) for program in ("scoring_program", "ingestion_program")]

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

require_linux()

from flair_bundle.building import build  # noqa: E402
from flair_bundle.check import check_bundle  # noqa: E402
from flair_bundle.contents import WEIGHTS, untracked_files  # noqa: E402
from flair_scoring.base.errors import DataError, UsageError, list_names, list_problems, run_command  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python bundle/build.py --untrained-reference -o dist/bundle.zip\n"
        "          python bundle/build.py --data DATA --data-on-worker flair2 --image me/flair2-kit:1.0\n"
        "          python bundle/build.py --check dist/bundle.zip",
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help="FLAIR #2, unpacked; none: code only")
    parser.add_argument(
        "--data-on-worker",
        metavar="PATH",
        help="ingestion reads from /app/data/PATH; with --data, worker_data/PATH is written, to be copied",
    )
    parser.add_argument("--image", metavar="NAME", help="published image, NAME:TAG; none: local use only")
    parser.add_argument(
        "--untrained-reference", action="store_true", help="leave the reference's weights out"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("dist/bundle.zip"), metavar="ZIP")
    parser.add_argument("--check", type=Path, metavar="ZIP", help="examine a bundle, build nothing")
    args = parser.parse_args()
    path = args.data_on_worker
    if path is not None and (not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", path) or ".." in path.split("/")):
        parser.error(f"--data-on-worker {path}: expected a path below /app/data, such as flair2")
    if args.output.is_dir():
        parser.error(f"--output {args.output}: is a folder; expected the name of a zip to write")
    return args


def report(path: Path) -> None:
    """Print what the check finds; DataError unless all of it can wait until the upload."""
    problems, notes, remarks = check_bundle(path)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    later = list_problems("local only, for use at home. Before an upload", notes, shown=100) if notes else ""
    if problems:
        title = f"{path}: not ready for the platform"
        raise DataError("\n".join(filter(None, (list_problems(title, problems, shown=100), later))))
    print(f"{path}: keeps all rules of the platform's importer")
    if later:
        print(later)


def main() -> None:
    """Build or check."""
    args = parse_arguments()
    if args.check:
        report(args.check)
        return
    trained = not args.untrained_reference
    if trained and not WEIGHTS.is_file():
        raise UsageError(
            f"{WEIGHTS}: missing; train the reference (make reference DATA=...), or build with "
            "--untrained-reference for a rehearsal: it can be timed, but its labels mean nothing"
        )
    if untracked := untracked_files():
        named = list_names(untracked)
        print(f"note: not in the starting kit, since git does not track them: {named}", file=sys.stderr)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        folders = build(args.output, args.data, args.data_on_worker, args.image, trained)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise UsageError(
            f"{args.output}: cannot be built ({reason}); check that file, or make room, or choose another -o"
        ) from None
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB")
    for folder in folders:
        print(f"{folder}: to be copied into the worker's data folder")


if __name__ == "__main__":
    run_command(main)
