"""Evaluate submissions at home as the platform does: ingest.py under the clock, then score.py.

Each submission gets a results folder. When both programs have ended, evaluation.json in that folder records
how, and under which conditions: a later run keeps the result as long as the conditions are the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flair_baseline.imports import warn_of_imports
from flair_ingestion.dataset import find_roots, labels_folder
from flair_ingestion.predictions import check_output
from flair_ingestion.submission import open_submission
from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import FlairError, SubmissionError, UsageError, list_names, list_problems
from flair_scoring.base.files import write_file
from flair_scoring.base.locks import lock
from flair_scoring.base.processes import end_with_parent
from flair_scoring.base.provenance import stamp
from flair_scoring.base.terminal import one_line
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.ingestion_output import read_timing
from flair_scoring.ranking.comparison import read_other
from flair_scoring.raster import PATCH_SIZE

KIT = Path(__file__).resolve().parents[2]
INGEST = KIT / "ingestion_program" / "ingest.py"
SCORE = KIT / "scoring_program" / "score.py"
PACKAGES = KIT / "bundle" / "packages.txt"
RECORD = "evaluation.json"  # written last
_RECORD_BYTES = 1 << 16
_PROGRAMS = (INGEST.parent, SCORE.parent, KIT / "reference_submission")
# Exit codes
_ABOUT_THE_SUBMISSION = (0, 3, 4)
_STOPPED = (129, 130, 143)  # by the end of the terminal, Ctrl-C, SIGTERM
_ABOUT_ALL = (2, *_STOPPED)  # the next submission would meet the same problem, or the user wants to stop


@dataclass(frozen=True)
class End:
    """How the evaluation of a submission ended: an exit code, None if it was not run, and a sentence."""

    code: int | None
    sentence: str


@dataclass(frozen=True)
class Task:
    """What all submissions of a run are evaluated on.

    `output` is the folder of the results folders, `cache` the folder that keeps the reference's time, and
    `options` are those for ingest.py. `pictures` says whether pages show pictures of patches; `compare` is
    the result from which pages tell the differences, if any. `content` tells other data at the same path
    apart, and other machines; where it is empty, only the path of the data is a condition of a kept result.
    """

    data: Path
    split: str
    output: Path
    cache: Path
    options: Sequence[str]
    pictures: bool = True
    compare: Path | None = None
    content: str = ""


def require_outputs(submissions: Mapping[str, Path], data: Path, output: Path) -> None:
    """Raises UsageError, which lists all results folders that ingestion would refuse, before it runs."""
    problems = []
    for name, submission in submissions.items():
        try:
            check_output(output / name, [data, submission], platform=False)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError(list_problems(f"{output}: cannot take the results", problems))


def require_comparable(
    compare: Path, submissions: Collection[str], output: Path, patches: Mapping[str, int], subset: int | None
) -> None:
    """Raises UsageError or DataError if a result cannot be compared with those of a run, before it runs.

    `compare` is the result's folder, `output` that of the results folders of the run, which are called as the
    `submissions`, `patches` is the number of patches by domain, and `subset` how many of them the run takes.
    """
    folder = compare if compare.is_dir() else compare.parent
    if folder.resolve() in {(output / name).resolve() for name in submissions}:
        raise UsageError(f"{compare}: this run replaces it; choose another --output, or another --compare")
    matrices = read_other(compare).domains
    if others := sorted(matrices.keys() - patches.keys()):
        raise UsageError(
            f"{compare}: was scored on domains that this split does not have: {list_names(others, 5)}; "
            "compare results of one split"
        )
    classes = len(next(iter(matrices.values()))) - 1
    if classes != FLAIR_12.num_classes:
        raise UsageError(
            f"{compare}: scores {classes} classes, and this run {FLAIR_12.num_classes}; compare results of "
            "one nomenclature"
        )
    scored = sum(int(matrix.sum()) for matrix in matrices.values()) // PATCH_SIZE**2
    total = sum(patches.values())
    taken = min(subset or total, total)
    if scored != taken:
        raise UsageError(
            f"{compare}: patches scored: {scored:,}; patches of this run: {taken:,} (--subset); compare "
            "results of the same patches"
        )


def evaluate_all(submissions: Mapping[str, Path], named: Collection[Path], task: Task) -> dict[str, End]:
    """Evaluate submissions (name -> path), one at a time, and say on stderr what happens.

    A submission that another run is evaluating comes last. Results that were obtained under the same
    conditions are kept, except those of the submissions in `named`. When one submission fails, the next one
    follows, unless the problem would stop the next one too.

    Returns name -> how it ended; a submission that was not reached is absent.
    """
    ends: dict[str, End] = {}
    for wait in (False, True):
        for number, (name, submission) in enumerate(submissions.items(), 1):
            if name in ends:
                continue
            output = task.output / name
            title = f"== {number} of {len(submissions)}: {one_line(name)}"
            with claim(output, wait) as ours:
                if not ours:
                    print(f"{title}: another run is at it", file=sys.stderr)
                    continue
                ends[name] = evaluate_or_keep(submission, submission in named, output, task, title)
            if ends[name].code == 0:
                print(one_line(str(output / "detailed_results.html")))
            if ends[name].code in _ABOUT_ALL:
                return ends
    return ends


def evaluate_or_keep(submission: Path, again: bool, output: Path, task: Task, title: str) -> End:
    """Evaluate a submission, or keep its result if there is one; with `again` no result is kept."""
    conditions = hash_conditions(submission, task.data, task.split, task.options, task.content)
    end = None if again else read_end(output, conditions)
    if end:
        print(f"{title}: kept, {end.sentence}", file=sys.stderr)
        if end.code == 0 and task.compare:  # the kept page tells no differences, or other ones
            code = score_output(output, task)
            return End(code, describe_result(output, code))
        return end
    print(title, file=sys.stderr)
    warn_of_imports(submission, PACKAGES)
    code = evaluate_submission(submission, output, task)
    if code in _ABOUT_THE_SUBMISSION:
        record = {**stamp(), "conditions": conditions, "exit_code": code}
        write_file(output / RECORD, json.dumps(record, indent=1) + "\n")
    return End(code, describe_result(output, code))


def evaluate_submission(submission: Path, output: Path, task: Task) -> int:
    """Run ingest.py and, if it succeeds, score.py; returns the exit code of the program that ran last."""
    paths = [str(task.data), str(submission), str(output)]
    options = ["--split", task.split, "--reference-cache", str(task.cache), *task.options]
    code = run_program([str(INGEST), *paths, *options])
    return code or score_output(output, task)


def score_output(output: Path, task: Task) -> int:
    """Run score.py on what ingest.py has left in `output`; returns its exit code."""
    references = labels_folder(task.data, task.split)
    command = [str(SCORE), str(output), str(references), "--ids", str(output / "ids.txt")]
    if task.pictures:
        (images,) = find_roots(task.data, "aerial", task.split)
        command += ["--pictures", str(images)]
    if task.compare:
        command += ["--compare", str(task.compare)]
    return run_program([*command, "--output", str(output)])


def run_program(command: Sequence[str]) -> int:
    """Run a Python program; returns its exit code, or 128 plus the number of the signal that ended it.

    When this process ends, the program receives SIGTERM and cleans up.
    """
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
    """Claim a results folder until the block ends, so that no other run writes to it.

    Yields False if another run has claimed it; with `wait`, waits for that run to end instead.
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


def hash_conditions(
    submission: Path, data: Path, split: str, options: Sequence[str], state: str = ""
) -> str | None:
    """SHA-256 of all that decides a result.

    This is the submission, the kit's programs and its reference, the options for ingest.py and the files that
    these options name. Of the data the path is hashed, and `state` if it is given. Returns None for a
    submission that cannot be opened; ingestion will say why.
    """
    try:
        content = open_submission(submission, math.inf).sha256
    except SubmissionError:
        return None
    told = [content, str(data.resolve()), split, list(options), *([state] if state else [])]
    total = hashlib.sha256(json.dumps(told).encode())
    words = [Path(word) for option in options for word in option.split("=")]
    for path in (*_PROGRAMS, *filter(Path.exists, words)):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                total.update(f"{file.relative_to(path)}\0{digest}\n".encode())
    return total.hexdigest()


def read_end(output: Path, conditions: str | None) -> End | None:
    """How the evaluation in a results folder ended; None if it is incomplete or had other conditions."""
    try:
        record = read_json(output / RECORD, _RECORD_BYTES)
        if conditions is None or record["conditions"] != conditions:
            return None
        return End(record["exit_code"], describe_result(output, record["exit_code"]))
    except (OSError, ValueError, LookupError, TypeError, FlairError):  # incomplete or of another version
        return None


def describe_result(output: Path, code: int) -> str:
    """The score, or the reason why there is none, as a sentence."""
    if code == 0:
        return f"mIoU {read_json(output / 'scores.json', _RECORD_BYTES)['miou']:.4f}"
    if code in _STOPPED:
        return f"stopped by {signal.Signals(code - 128).name}"
    if code > 128:
        return f"killed by {signal.Signals(code - 128).name}; perhaps the machine ran out of memory"
    timing = read_timing(output) if code in _ABOUT_THE_SUBMISSION else {"verdict": "within_limit"}
    return "the reason stands above" if timing["verdict"] == "within_limit" else str(timing["reason"])
