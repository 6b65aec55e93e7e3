"""Evaluate submissions as the platform does: its own programs run ingestion under the clock, then score.

OUTPUT/<name>/ gets all that they write: predictions, timing.json, scores.json, detailed_results.html.
After an interruption, repeat the command: of a folder of submissions, those are kept that were evaluated
under the same conditions. A submission that the command line names itself is always evaluated again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flair_baseline.evaluation import End, Task, evaluate_all, require_comparable, require_outputs
from flair_baseline.machines.interruption import advice_if_interrupted, command_that_goes_on
from flair_baseline.submissions import find_submissions
from flair_ingestion.dataset import describe_gaps, index_patches, require_data
from flair_ingestion.sandbox.system import require_linux
from flair_scoring.base.errors import FlairError, SubmissionError, list_names, run_command


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the options for ingest.py; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,  # --reference is ingest.py's, not short for --reference-cache
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="ingest.py's options (--device, --subset, --limit-seconds …) come last and are passed on.\n"
        "example: python starting_kit/evaluate.py submission.zip --data DATA --split val --subset 500\n"
        "         python starting_kit/evaluate.py submissions/ --data DATA --output runs/results",
    )
    parser.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION_OR_FOLDER_OF_THEM")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the FLAIR #2 archives, unpacked"
    )
    parser.add_argument(
        "--reference-cache", type=Path, metavar="DIR", help="keep the reference's time here, for later runs"
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave out the pictures of the best, median and worst patches and of an area",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER",
        help="tell the differences from another result on the same patches: its folder",
    )
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/results"), help="default: %(default)s"
    )
    return parser.parse_known_args()


def find_subset(options: Sequence[str]) -> int | None:
    """The number after --subset among the options for ingest.py, which refuses what is no number."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--subset", type=int)
    try:
        return parser.parse_known_args(options)[0].subset
    except argparse.ArgumentError:
        return None


def main() -> None:
    """Evaluate every submission named on the command line, one at a time, and say how each one ended."""
    require_linux()
    args, options = parse_arguments()
    submissions = find_submissions(args.submissions)
    require_data(args.data)
    # Ingestion takes the images that are there, and scoring its predictions: neither would miss the others
    patches = index_patches(args.data, args.split, labels=True)
    for gap in describe_gaps(args.data, {args.split: patches}):
        print(f"note: {gap}", file=sys.stderr)
    require_outputs(submissions, args.data, args.output)
    if args.compare:
        domains = Counter(patch.domain for patch in patches)
        require_comparable(args.compare, submissions, args.output, domains, find_subset(options))
    with (
        advice_if_interrupted(advise(submissions, args.submissions)),
        tempfile.TemporaryDirectory() as folder,  # the reference is timed once for all submissions
    ):
        cache = args.reference_cache or Path(folder)
        task = Task(args.data, args.split, args.output, cache, options, not args.no_pictures, args.compare)
        ends = evaluate_all(submissions, args.submissions, task)
    if len(submissions) > 1:
        explain_ranking(args.output)
    unscored = {name: ends.get(name, End(None, "")) for name in submissions}
    unscored = {name: end for name, end in unscored.items() if end.code != 0}
    if unscored:
        raise describe_failures(unscored, len(submissions))


def advise(submissions: Mapping[str, Path], named: Collection[Path]) -> str:
    """What to do after an interruption: run the same command, which keeps what was not named itself."""
    again = [submission in named for submission in submissions.values()]
    if all(again):
        return f"this command begins again, since it names its submissions: {command_that_goes_on()}"
    but = " but those of submissions that are named" if any(again) else ""
    return f"complete results are kept{but}; this command goes on: {command_that_goes_on()}"


def explain_ranking(output: Path) -> None:
    """Print the command that makes a leaderboard of the results."""
    rank = f"python scoring_program/rank.py {output}/* --output {output.parent / 'leaderboard.html'}"
    print(f"a leaderboard of all results: {rank}", file=sys.stderr)


def describe_failures(unscored: Mapping[str, End], count: int) -> FlairError:
    """An error about the submissions without a score, of `count`, with the highest of their exit codes."""
    ends = [
        "not reached by this run" if end.code is None else f"exit code {end.code}"
        for end in unscored.values()
    ]
    listing = list_names([f"{name} ({end})" for name, end in zip(unscored, ends, strict=True)])
    reasons = [f"\n  {name}: {end.sentence}" for name, end in unscored.items() if end.code is not None]
    title = f"{len(unscored)} of {count} submissions have no score: {listing}"
    error = SubmissionError("".join([title, *reasons]))
    error.exit_code = max(end.code for end in unscored.values() if end.code is not None)
    return error


if __name__ == "__main__":
    run_command(main)
