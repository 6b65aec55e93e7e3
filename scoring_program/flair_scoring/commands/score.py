"""Score predictions: the IoU of every class and their mean, as the leaderboard computes it.

PRED is the output of ingest.py, or any folder with PRED_<6 digits>.tif (uint8, class indices).
REF is a folder with MSK_<6 digits>.tif (FLAIR annotation values), flat or in domain and area folders.
--merge adds up outputs of patches that were scored apart (--ids, --output): the numbers are the same.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from flair_scoring import evaluate
from flair_scoring.base.errors import FlairError, UsageError, run_command
from flair_scoring.base.files import require_folder, write_file
from flair_scoring.base.terminal import one_line
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import FLAIR_12, NOMENCLATURES, get_nomenclature
from flair_scoring.outputs.ingestion_output import (
    TIMING,
    IngestionOutput,
    open_output,
    open_platform_output,
    read_signed_timing,
    read_timing,
)
from flair_scoring.outputs.matrices import merge
from flair_scoring.pairing import read_ids
from flair_scoring.ranking.comparison import Comparison, compare, read_other
from flair_scoring.report.failure import render_failure
from flair_scoring.report.pictures.section import render_pictures
from flair_scoring.report.result import render_text
from flair_scoring.writing import PAGE, prepare_output, remove_results, write_results

KEY = Path(__file__).resolve().parents[2] / "signing.key"  # beside score.py, where the bundle puts it


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s PRED REF [options]\n       %(prog)s --merge SHARD SHARD ... [--output DIR]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: %(prog)s pred/ flair_2_labels_test --output runs/scored",
    )
    parser.add_argument("predictions", type=Path, nargs="?", metavar="PRED")
    parser.add_argument("references", type=Path, nargs="?", metavar="REF")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write scores.json, reports and matrices here"
    )
    parser.add_argument(
        "--nomenclature", default=FLAIR_12.name, help=f"{', '.join(NOMENCLATURES)} (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: the cores)")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="score these 6-digit ids only, one per line")
    parser.add_argument(
        "--platform", action="store_true", help="accept nothing but what signed ingestion wrote"
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        metavar="SHARD",
        help="add up several outputs: their folders, or the confusion.npz in them",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DATA",
        help="show the best, median and worst patches, and an area; DATA has their images",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER",
        help="tell the differences from another result on the same references: its folder",
    )
    args = parser.parse_args()
    if args.pictures and (args.platform or args.merge or not args.output):
        parser.error(
            "--pictures needs PRED, REF and --output, and --platform refuses it: participants see it"
        )
    if args.compare and args.platform:
        parser.error("--compare stands without --platform: a page for participants shows one result")
    if args.merge and (args.predictions or args.ids or args.platform):
        parser.error("--merge stands alone: no PRED, REF, --ids or --platform beside it")
    if not args.merge and not args.references:
        parser.error("expected PRED and REF, two folders, or --merge with outputs of score.py")
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: expected at least 1")
    return args


def read_key() -> bytes:
    """The key with which ingestion signs; UsageError if it cannot be read."""
    try:
        return KEY.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{KEY}: missing or unreadable ({error.strerror}); build the bundle again: it puts the same key "
            "into both programs"
        ) from None


def read_shards(args: argparse.Namespace) -> tuple[Evaluation, IngestionOutput]:
    """The evaluation that --merge adds up. It has no time: a time belongs to one run of ingestion."""
    return merge(args.merge), IngestionOutput([], {}, None)


def score_predictions(args: argparse.Namespace) -> tuple[Evaluation, IngestionOutput]:
    """The evaluation of PRED against REF, and what ingestion has left in PRED."""
    if args.platform and args.ids:
        raise UsageError("--ids cannot be combined with --platform: there every reference counts")
    nomenclature = get_nomenclature(args.nomenclature)
    output = (
        open_platform_output(args.predictions, read_key()) if args.platform else open_output(args.predictions)
    )
    ids = read_ids(args.ids) if args.ids else None
    evaluation = evaluate(output.predictions, args.references, nomenclature, ids, args.jobs, progress=True)
    return evaluation, output


def evaluate_and_write(args: argparse.Namespace) -> tuple[Evaluation, Comparison | None]:
    """The evaluation that the command line asks for, and the comparison if there is one.

    With --output the files are written.
    """
    if args.pictures:
        require_folder(args.pictures, "the images IMG_*.tif")
    other = read_other(args.compare) if args.compare else None  # before hours of work, not after them
    evaluation, output = read_shards(args) if args.merge else score_predictions(args)
    for note in evaluation.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    comparison = compare(evaluation, other) if other else None
    if args.output:
        pictures = render_pictures(evaluation, args.pictures) if args.pictures else []
        write_results(args.output, evaluation, output, args.platform, pictures, comparison)
    return evaluation, comparison


def explain_failure(args: argparse.Namespace, error: Exception) -> None:
    """Leave only two files in --output: the page that says why there is no score, and a copy of timing.json.

    rank.py needs the copy to list the run. A timing.json is not copied if it is damaged or, with --platform,
    not signed.
    """
    timing: dict[str, Any] = {}
    with suppress(FlairError, OSError):  # without them the page tells the error only
        if args.platform:
            _, timing = read_signed_timing(args.predictions, read_key())
        elif args.predictions:
            timing = read_timing(args.predictions)
    with suppress(FlairError, OSError):  # a page that cannot be written must not hide the error
        remove_results(args.output)
        write_file(args.output / PAGE, render_failure(error, timing, args.platform))
        if timing:
            write_file(args.output / TIMING, (args.predictions / TIMING).read_bytes())


def main() -> None:
    """Evaluate, write the results if asked to, print the table."""
    args = parse_arguments()
    if args.merge and args.output:
        read = {(path if path.is_dir() else path.parent).resolve() for path in args.merge}
        if args.output.resolve() in read:
            raise UsageError(f"{args.output}: holds a file that --merge reads; choose another --output")
    if args.compare and args.output:
        folder = args.compare if args.compare.is_dir() else args.compare.parent
        if args.output.resolve() == folder.resolve():
            raise UsageError(f"{args.output}: holds the result of --compare; choose another --output")
    if args.output:
        prepare_output(args.output, args.predictions)
    try:
        evaluation, comparison = evaluate_and_write(args)
    except Exception as error:  # also our own bugs: the page may be all that a participant sees
        if args.output:
            explain_failure(args, error)
        raise
    print(render_text(evaluation, comparison))


def run() -> None:
    """The command flair-score: `main` with the kit's exit codes."""
    run_command(main)
