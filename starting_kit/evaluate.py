"""What a submission will get: ingestion under the clock, then the score, with the platform's own programs.

OUTPUT/<name>/ gets all that they write: predictions, timing.json, scores.json, detailed_results.html.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from flair_ingestion.dataset import labels_folder
from flair_scoring.errors import FlairError, SubmissionError, UsageError, run_command

KIT = Path(__file__).resolve().parents[1]
INGEST = KIT / "ingestion_program" / "ingest.py"
SCORE = KIT / "scoring_program" / "score.py"


def is_submission(path: Path) -> bool:
    """A zip, or a folder with model.py at its root or inside its only folder."""
    if path.is_dir():
        return (path / "model.py").is_file() or len(list(path.glob("*/model.py"))) == len(
            list(path.iterdir())
        ) == 1
    return path.suffix == ".zip" and path.is_file()


def find_submissions(paths: list[Path]) -> dict[str, Path]:
    """Name -> path of every submission among `paths` and inside the folders among them, in name order.

    Raises UsageError for a path that is neither, and for two submissions of one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = [path] if is_submission(path) else sorted(filter(is_submission, path.glob("*")))
        if not inside:
            raise UsageError(
                f"{path}: neither a submission (a zip, or a folder with model.py) nor a folder of them"
            )
        for submission in inside:
            name = submission.stem if submission.is_file() else submission.resolve().name
            if name in found:
                raise UsageError(
                    f"{submission} and {found[name]} would share the results folder {name}; rename one"
                )
            found[name] = submission
    return found


def evaluate_submission(
    submission: Path, data: Path, split: str, output: Path, ingest_options: list[str]
) -> int:
    """Ingest, and score if that went well; the exit code of the first program that failed, else 0."""
    python = [sys.executable, "-B"]
    paths = [str(data), str(submission), str(output)]
    code = subprocess.run([*python, str(INGEST), *paths, "--split", split, *ingest_options]).returncode
    if code:
        return code
    references = labels_folder(data, split)
    command = [*python, str(SCORE), str(output), str(references), "--ids", str(output / "ids.txt")]
    return subprocess.run([*command, "--output", str(output)]).returncode


def main() -> None:
    """Evaluate every submission named on the command line, one at a time, and say how each one ended."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Options of ingest.py (--device, --subset, --limit-seconds …) are handed on to it.\n"
        "example: python starting_kit/evaluate.py submission.zip --data DATA --split val --subset 500",
    )
    parser.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION_OR_FOLDER_OF_THEM")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the FLAIR #2 archives, unpacked"
    )
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--output", type=Path, default=Path("runs/results"), help="default: %(default)s")
    args, ingest_options = parser.parse_known_args()

    submissions = find_submissions(args.submissions)
    labels_folder(args.data, args.split)  # no labels, no score: say so before an hour of inference
    codes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as reference_cache:  # the reference is timed once for all of them
        ingest_options = ["--reference-cache", reference_cache, *ingest_options]  # one of the user's own wins
        for name, submission in submissions.items():
            print(f"== {name}", file=sys.stderr)
            output = args.output / name
            codes[name] = evaluate_submission(submission, args.data, args.split, output, ingest_options)
            if codes[name] in (2, 130, 143):  # not the submission's fault: the next one would meet it too
                break
            if codes[name] == 0:
                print(output / "detailed_results.html")
    unscored = {name: codes.get(name) for name in submissions if codes.get(name) != 0}
    if unscored:
        raise _failure(unscored, len(submissions))


def _failure(unscored: dict[str, int | None], count: int) -> FlairError:
    """An error with the highest exit code among the submissions without a score; None was not run."""
    ends = ["not run" if code is None else f"exit code {code}" for code in unscored.values()]
    listing = ", ".join(f"{name} ({end})" for name, end in zip(unscored, ends, strict=True))
    error = SubmissionError(
        f"{len(unscored)} of {count} submissions have no score: {listing}; the reasons stand above"
    )
    error.exit_code = max(code for code in unscored.values() if code is not None)
    return error


if __name__ == "__main__":
    run_command(main)
