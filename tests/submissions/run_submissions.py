"""Run the test submissions through ingestion and print what became of each.

- PASSED: an honest submission, and it was accepted.
- CAUGHT: a broken or cheating submission that was refused, or whose attacks all failed.
- OPEN: an attack that succeeded, and that THREATS.md calls open.
- CHEATED: an attack that succeeded.
- UNEXPECTED: a submission that ended otherwise than entries.py expects.

The seconds are those of the whole command, with the start of Python and torch. The exit code is 1 if a
submission is CHEATED or UNEXPECTED.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / name) for name in ("", "ingestion_program")]
import entries
from entries import Entry
from ingest_command import run_ingest

FINE = ("PASSED", "CAUGHT", "OPEN")
WIDTH = 72  # of a sentence in the table


def observe(
    entry: Entry, data: Path, folder: Path, device: str = "cpu"
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run ingestion on a test submission in `folder`; the ended process, and timing.json, empty if absent."""
    submission, output = entries.copy_submission(entry.name, folder), folder / "output"
    (folder / "limits.yaml").write_text(entry.limits or "load_seconds: 120")
    options = ["--limits", folder / "limits.yaml", "--limit-ratio", 0]
    done = run_ingest(folder, data, submission, output, *options, device=device)
    timing = output / "timing.json"
    return done, json.loads(timing.read_text()) if timing.is_file() else {}


def judge(entry: Entry, kind: str, done: subprocess.CompletedProcess[str]) -> str:
    """PASSED, CAUGHT, OPEN, CHEATED or UNEXPECTED. `kind`: what `read_kind` returns."""
    if "CHEATED" in done.stderr or (kind == "Cheating" and done.returncode == 0 != entry.exit_code):
        return "OPEN" if entry.open else "CHEATED"
    said = done.stderr if entry.exit_code else done.stdout
    if done.returncode != entry.exit_code or entry.says not in said or "Traceback" in done.stderr:
        return "UNEXPECTED"
    return "PASSED" if kind == "Honest" else "CAUGHT"


def read_kind(entry: Entry) -> str:
    """Honest, Broken or Cheating: the first word of the submission's docstring."""
    folder = entries.HERE / entry.name
    source = folder / "model.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition(" ")[0].rstrip(":,")


def run_entry(entry: Entry, data: Path, device: str) -> tuple[str, str]:
    """The result of one test submission, and what was observed, in a sentence."""
    with tempfile.TemporaryDirectory(prefix="flair2-test-") as folder:
        try:
            done, timing = observe(entry, data, Path(folder), device)
        except (
            AssertionError,
            subprocess.TimeoutExpired,
        ) as error:  # something is left behind, or does not end
            return "UNEXPECTED", repr(error)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return judge(entry, read_kind(entry), done), f"exit {done.returncode}: {timing.get('reason', last)}"


def draw_data(folder: Path, device: str) -> Path:
    """A few patches; on a machine with a GPU the toy data set, which needs no further package."""
    if device == "cuda":
        from flair_toy.dataset import make_toy_dataset

        make_toy_dataset(folder / "toy", "tiny", 2022)
        return folder / "toy"
    from flair_files import write_flair_tree

    return write_flair_tree(folder)


def main() -> None:
    """Run the test submissions that were named, else all, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="names in entries.py; default: all")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: run those that are meant for a GPU"
    )
    args = parser.parse_args()
    names = args.names
    listed = entries.ENTRIES if args.device == "cpu" else entries.GPU_ENTRIES
    known = {entry.name: entry for entry in listed}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such test submission: {', '.join(unknown)}; there are: {', '.join(known)}")
    counts: Counter[str] = Counter()
    wide = max(map(len, known))
    print(f"{'submission':{wide}}  {'expected':{WIDTH}}  {'observed':{WIDTH}}  seconds  result")
    with tempfile.TemporaryDirectory(prefix="flair2-data-") as folder:
        data = draw_data(Path(folder), args.device)
        for name in names or known:
            entry = known[name]
            begin = time.monotonic()
            result, observed = run_entry(entry, data, args.device)
            seconds = time.monotonic() - begin
            counts[result] += 1
            expected = f"exit {entry.exit_code}: {entry.says}"[:WIDTH]
            line = f"{name:{wide}}  {expected:{WIDTH}}  {observed[:WIDTH]:{WIDTH}}"
            print(f"{line}  {seconds:7.1f}  {result}", flush=True)
    sums = ", ".join(f"{counts[result]} {result}" for result in (*FINE, "CHEATED", "UNEXPECTED"))
    print(f"{counts.total()} submissions: {sums}")
    sys.exit(0 if set(counts) <= set(FINE) else 1)


if __name__ == "__main__":
    main()
