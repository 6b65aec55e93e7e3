"""What a submission will get: ingestion under the clock, then the score, with the platform's own programs.

OUTPUT/<name>/ gets all that they write: predictions, timing.json, scores.json, detailed_results.html.
After an interruption, the same command takes a folder of submissions up again: what has been evaluated under
the same conditions is kept. A submission that is named itself is always evaluated.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flair_baseline.imports import missing_imports, read_packages
from flair_baseline.training.interruption import advice_if_interrupted, command_that_goes_on
from flair_ingestion.dataset import describe_gaps, index_patches, labels_folder, require_data
from flair_ingestion.predictions import check_output
from flair_ingestion.sandbox.system import require_linux
from flair_ingestion.submission import open_submission, read_sources
from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import (
    FlairError,
    SubmissionError,
    UsageError,
    list_names,
    list_problems,
    run_command,
)
from flair_scoring.base.files import write_file
from flair_scoring.base.locks import lock
from flair_scoring.base.processes import end_with_parent
from flair_scoring.base.provenance import stamp
from flair_scoring.base.terminal import one_line
from flair_scoring.outputs.ingestion_output import read_timing

KIT = Path(__file__).resolve().parents[1]
INGEST = KIT / "ingestion_program" / "ingest.py"
SCORE = KIT / "scoring_program" / "score.py"
PACKAGES = KIT / "bundle" / "packages.txt"
RECORD = "evaluation.json"  # beside the results, written last
_RECORD_BYTES = 1 << 16
_PROGRAMS = (INGEST.parent, SCORE.parent, KIT / "reference_submission")
_ABOUT_THE_SUBMISSION = (0, 3, 4)  # exit codes
_ABOUT_ALL = (2, 130, 143)  # the next submission would meet the same problem, or the user wants to stop


@dataclass(frozen=True)
class End:
    """How the evaluation of a submission ended: an exit code, None if it was not run, and a sentence."""

    code: int | None
    sentence: str


def is_submission(path: Path) -> bool:
    """A zip, or a folder with model.py at its root or inside its only folder."""
    if path.is_dir():
        inside = [*path.glob("*/model.py"), *path.glob("*\\model.py")]  # as in a zip made by old Windows
        tops = {entry.name.split("\\")[0] for entry in path.iterdir()}
        return (path / "model.py").is_file() or len(inside) == len(tops) == 1
    return path.suffix.lower() == ".zip" and path.is_file()


def find_submissions(paths: list[Path]) -> dict[str, Path]:
    """Name -> path of every submission among `paths` and inside the folders among them, in name order.

    Raises UsageError for all paths that are neither, and for submissions that share a name.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    for path in paths:
        inside = [path] if is_submission(path) else sorted(filter(is_submission, path.glob("*")))
        if not inside:
            kind = "neither a submission nor a folder of them" if path.exists() else "no such file or folder"
            problems.append(f"{path}: {kind}")
        for submission in inside:
            name = submission.stem if submission.is_file() else submission.resolve().name
            if found.setdefault(name, submission) != submission:
                problems.append(
                    f"{submission} and {found[name]} would share the results folder {name}; rename one"
                )
        others = sorted(entry.name for entry in path.glob("[!.]*") if entry not in inside)
        if inside and inside != [path] and others:
            print(f"note: not submissions, left out: {one_line(list_names(others))}", file=sys.stderr)
    if problems:
        expected = "expected zips or folders with model.py, and options of ingest.py after them"
        raise UsageError(list_problems(f"cannot take the submissions; {expected}", problems))
    return found


def require_outputs(submissions: dict[str, Path], data: Path, output: Path) -> None:
    """Raises UsageError for all results folders that ingestion would refuse, before any of it runs."""
    problems = []
    for name, submission in submissions.items():
        try:
            check_output(output / name, [data, submission], platform=False)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError(list_problems(f"{output}: cannot take the results", problems))


def hash_conditions(submission: Path, data: Path, split: str, ingest_options: list[str]) -> str | None:
    """SHA-256 of what decides a result: submission, programs, reference, options, the files that those name.

    Of DATA only the path. None for a submission that cannot be opened: ingestion tells why.
    """
    try:
        content = open_submission(submission, math.inf).sha256
    except SubmissionError:
        return None
    total = hashlib.sha256(json.dumps([content, str(data.resolve()), split, ingest_options]).encode())
    words = [Path(word) for option in ingest_options for word in option.split("=")]
    for path in (*_PROGRAMS, *filter(Path.exists, words)):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                total.update(f"{file.relative_to(path)}\0{digest}\n".encode())
    return total.hexdigest()


def warn_of_imports(submission: Path) -> None:
    """Tell what it imports that may be installed here and is absent on the platform."""
    try:
        sources = read_sources(open_submission(submission, math.inf))
    except SubmissionError:  # ingestion tells why
        return
    if missing := missing_imports(sources, read_packages(PACKAGES)):
        listing = ", ".join(f"{module} ({path})" for module, path in missing.items())
        print(
            f"warning: {submission} imports what bundle/packages.txt does not list for the platform's image: "
            f"{listing}; bring the sources along in the zip, or do without",
            file=sys.stderr,
        )


def read_end(output: Path, conditions: str | None) -> End | None:
    """How an evaluation ended that was completed under these conditions; None if there was none."""
    try:
        record = read_json(output / RECORD, _RECORD_BYTES)
        if conditions is None or record["conditions"] != conditions:
            return None
        return End(record["exit_code"], describe_result(output, record["exit_code"]))
    except (OSError, ValueError, LookupError, TypeError, FlairError):  # incomplete or of another version
        return None


def describe_result(output: Path, code: int) -> str:
    """The score, or ingestion's reason why there is none."""
    if code == 0:
        return f"mIoU {read_json(output / 'scores.json', _RECORD_BYTES)['miou']:.4f}"
    if code > 128 and code not in _ABOUT_ALL:
        return f"killed by {signal.Signals(code - 128).name}; perhaps the machine ran out of memory"
    timing = read_timing(output) if code in _ABOUT_THE_SUBMISSION else {"verdict": "within_limit"}
    return "the reason stands above" if timing["verdict"] == "within_limit" else str(timing["reason"])


def evaluate_submission(
    submission: Path, data: Path, split: str, output: Path, ingest_options: list[str]
) -> int:
    """Ingest, and score if that went well; the exit code of the first program that failed, else 0."""
    paths = [str(data), str(submission), str(output)]
    code = run_program([str(INGEST), *paths, "--split", split, *ingest_options])
    if code:
        return code
    references = labels_folder(data, split)
    command = [str(SCORE), str(output), str(references), "--ids", str(output / "ids.txt")]
    return run_program([*command, "--output", str(output)])


def run_program(command: list[str]) -> int:
    """Its exit code, 128 and more after a signal. It ends with this process, cleaning up after itself."""
    end = functools.partial(end_with_parent, os.getpid(), signal.SIGTERM)
    with subprocess.Popen([sys.executable, "-B", *command], preexec_fn=end) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return code if code >= 0 else 128 - code


@contextmanager
def claim(output: Path, wait: bool) -> Iterator[bool]:
    """Whether no other run is at this results folder; if so it is this run's until the block ends.

    With `wait` it will be, later.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock")
    while True:
        with path.open("a") as file:
            if not lock(file.fileno(), wait):
                yield False
                return
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue  # removed by its owner while this run waited
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


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
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/results"), help="default: %(default)s"
    )
    return parser.parse_known_args()


def evaluate_all(
    submissions: dict[str, Path], args: argparse.Namespace, options: list[str]
) -> dict[str, End]:
    """How each one ended, those last that another run was at; without those that were not run at all.

    One that fails does not stop the others; a problem that the others would meet, too, does.
    """
    ends: dict[str, End] = {}
    for wait in (False, True):
        for number, (name, submission) in enumerate(submissions.items(), 1):
            if name in ends:
                continue
            output = args.output / name
            title = f"== {number} of {len(submissions)}: {one_line(name)}"
            with claim(output, wait) as ours:
                if not ours:
                    print(f"{title}: another run is at it", file=sys.stderr)
                    continue
                ends[name] = evaluate_or_keep(submission, output, args, options, title)
            if ends[name].code == 0:
                print(one_line(str(output / "detailed_results.html")))
            if ends[name].code in _ABOUT_ALL:
                return ends
    return ends


def evaluate_or_keep(
    submission: Path, output: Path, args: argparse.Namespace, options: list[str], title: str
) -> End:
    """Evaluate one, unless that has been done and it was not named itself; announced with `title`."""
    conditions = hash_conditions(submission, args.data, args.split, options)
    end = None if submission in args.submissions else read_end(output, conditions)
    if end:
        print(f"{title}: kept, {end.sentence}", file=sys.stderr)
        return end
    print(title, file=sys.stderr)
    warn_of_imports(submission)
    cached = ["--reference-cache", str(args.reference_cache), *options]
    code = evaluate_submission(submission, args.data, args.split, output, cached)
    if code in _ABOUT_THE_SUBMISSION:
        record = {**stamp(), "conditions": conditions, "exit_code": code}
        write_file(output / RECORD, json.dumps(record, indent=1) + "\n")
    return End(code, describe_result(output, code))


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
    with (
        advice_if_interrupted(_advise(submissions, args.submissions)),
        tempfile.TemporaryDirectory() as folder,  # the reference is timed once for all of them
    ):
        args.reference_cache = args.reference_cache or folder
        ends = evaluate_all(submissions, args, options)
    if len(submissions) > 1:
        _explain_ranking(args.output)
    unscored = {name: ends.get(name, End(None, "")) for name in submissions}
    unscored = {name: end for name, end in unscored.items() if end.code != 0}
    if unscored:
        raise _failure(unscored, len(submissions))


def _advise(submissions: dict[str, Path], named: list[Path]) -> str:
    """What to do after an interruption: the same command, which keeps what was not named itself."""
    again = [submission in named for submission in submissions.values()]
    if all(again):
        return f"this command begins again, since it names its submissions: {command_that_goes_on()}"
    but = " but those of submissions that are named" if any(again) else ""
    return f"complete results are kept{but}; this command goes on: {command_that_goes_on()}"


def _explain_ranking(output: Path) -> None:
    rank = f"python scoring_program/rank.py {output}/* --output {output.parent / 'leaderboard.html'}"
    print(f"a leaderboard of all results: {rank}", file=sys.stderr)


def _failure(unscored: dict[str, End], count: int) -> FlairError:
    """An error with the highest exit code among the submissions without a score."""
    ends = ["not run" if end.code is None else f"exit code {end.code}" for end in unscored.values()]
    listing = list_names([f"{name} ({end})" for name, end in zip(unscored, ends, strict=True)])
    reasons = [f"\n  {name}: {end.sentence}" for name, end in unscored.items() if end.code is not None]
    told = f"{len(unscored)} of {count} submissions have no score: {listing}"
    error = SubmissionError("".join([told, *reasons]))
    error.exit_code = max(end.code for end in unscored.values() if end.code is not None)
    return error


if __name__ == "__main__":
    run_command(main)
