"""Run the zoo and print what became of each submission: PASSED, CAUGHT, or CHEATED if it got away with it.

Honest submissions pass. Broken and cheating ones are caught: refused, or their attacks fail one and all. OPEN
is an attack that succeeds and that THREATS.md calls open. The seconds are those of the whole command, the
start of Python and torch included. Ends with exit code 1 if one cheated, or ended otherwise than zoo.py
expects.
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
import zoo
from ingest_command import run_ingest
from zoo import Animal

FINE = ("PASSED", "CAUGHT", "OPEN")
WIDTH = 72  # of a sentence in the table


def observe(
    animal: Animal, data: Path, folder: Path, device: str = "cpu"
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run ingestion on it in `folder`; the ended process, and timing.json, empty if there is none."""
    submission, output = zoo.lay_out(animal.name, folder), folder / "output"
    (folder / "limits.yaml").write_text(animal.limits or "load_seconds: 120")
    options = ["--limits", folder / "limits.yaml", "--limit-ratio", 0]
    done = run_ingest(folder, data, submission, output, *options, device=device)
    timing = output / "timing.json"
    return done, json.loads(timing.read_text()) if timing.is_file() else {}


def judge(animal: Animal, kind: str, done: subprocess.CompletedProcess[str]) -> str:
    """PASSED, CAUGHT, OPEN, CHEATED or UNEXPECTED. `kind`: the first word of its docstring."""
    if "CHEATED" in done.stderr or (kind == "Cheating" and done.returncode == 0 != animal.exit_code):
        return "OPEN" if animal.open else "CHEATED"
    said = done.stderr if animal.exit_code else done.stdout
    if done.returncode != animal.exit_code or animal.says not in said or "Traceback" in done.stderr:
        return "UNEXPECTED"
    return "PASSED" if kind == "Honest" else "CAUGHT"


def read_kind(animal: Animal) -> str:
    """Honest, Broken or Cheating, as its docstring begins."""
    folder = zoo.HERE / animal.name
    source = folder / "model.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition(" ")[0].rstrip(":,")


def visit(animal: Animal, data: Path, device: str) -> tuple[str, str]:
    """The result for one animal, and what was observed in a sentence."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        try:
            done, timing = observe(animal, data, Path(folder), device)
        except (AssertionError, subprocess.TimeoutExpired) as error:  # something is left, or does not end
            return "UNEXPECTED", repr(error)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return judge(animal, read_kind(animal), done), f"exit {done.returncode}: {timing.get('reason', last)}"


def draw_data(folder: Path, device: str) -> Path:
    """A few patches; on a machine with a GPU the toy set's, which need no further package."""
    if device == "cuda":
        from flair_toy.dataset import make_toy_dataset

        make_toy_dataset(folder / "toy", "tiny", 2022)
        return folder / "toy"
    from flair_files import write_flair_tree

    return write_flair_tree(folder)


def main() -> None:
    """Run those that were named, else all, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="submissions of zoo.py; default: all")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: those that are meant for a GPU"
    )
    args = parser.parse_args()
    names = args.names
    known = {animal.name: animal for animal in (zoo.ANIMALS if args.device == "cpu" else zoo.GPU_ANIMALS)}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"not in the zoo: {', '.join(unknown)}; there are: {', '.join(known)}")
    counts: Counter[str] = Counter()
    wide = max(map(len, known))
    print(f"{'submission':{wide}}  {'expected':{WIDTH}}  {'observed':{WIDTH}}  seconds  result")
    with tempfile.TemporaryDirectory(prefix="zoo-data-") as folder:
        data = draw_data(Path(folder), args.device)
        for name in names or known:
            animal = known[name]
            begin = time.monotonic()
            result, observed = visit(animal, data, args.device)
            seconds = time.monotonic() - begin
            counts[result] += 1
            expected = f"exit {animal.exit_code}: {animal.says}"[:WIDTH]
            line = f"{name:{wide}}  {expected:{WIDTH}}  {observed[:WIDTH]:{WIDTH}}"
            print(f"{line}  {seconds:7.1f}  {result}", flush=True)
    sums = ", ".join(f"{counts[result]} {result}" for result in (*FINE, "CHEATED", "UNEXPECTED"))
    print(f"{counts.total()} submissions: {sums}")
    sys.exit(0 if set(counts) <= set(FINE) else 1)


if __name__ == "__main__":
    main()
