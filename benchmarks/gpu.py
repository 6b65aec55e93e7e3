"""Run what needs a GPU, the most important parts first, as many as fit into nine minutes.

Each part is a program with its own time budget. If one fails, the others still run. runs/gpu keeps what they
print, a table of the results, and lines for the record in record.md. Without a GPU, only the parts run that
have a smaller version for the CPU, and the table says which parts did not run.

The exit code is 1 if a part has failed or has not ended within its budget. Ctrl-C, SIGTERM and the end of
the terminal end the part that is running, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
sys.path.append(str(KIT / "scoring_program"))  # a machine without network may lack an installed kit

from flair_scoring.base.errors import run_command  # noqa: E402
from flair_scoring.base.interrupts import held_signals  # noqa: E402

OUTPUT = KIT / "runs" / "gpu"
SEED = "2022"
MINUTES = 9
GRACE_SECONDS = 5  # for a part that is asked to end
PATIENCE = 4  # without a GPU, on a machine that may be busy, everything may take so many times as long
FINE, NOT_RUN = "done", "not run"
DEVICE = """
import json, torch
gpu = torch.cuda.is_available()
facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu and torch.cuda.get_device_name()}
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Part:
    """A program with its arguments: those with a GPU, those without (None: it does not run).

    `seconds` is the time that it may take, with a GPU. `telling` is a text by which the most telling line of
    its output is found.
    """

    name: str
    seconds: float
    gpu: Sequence[str]
    cpu: Sequence[str] | None
    telling: str = ""


@dataclass(frozen=True)
class PartResult:
    """How a part ended, the seconds that it took, and the most telling line that it printed."""

    name: str
    state: str
    seconds: float
    said: str


def list_parts(data: Path, output: Path) -> list[Part]:
    """All parts, in the order in which they run."""
    toy = ["starting_kit/make_toy_dataset.py", str(data), "--size", "tiny", "--seed", SEED]
    probe = ["ingestion_program/flair_ingestion/sandbox/runner.py", "--probe"]
    ingest = ["ingestion_program/ingest.py", str(data), "reference_submission", str(output / "run")]
    ingest += ["--limit-ratio", "0"]
    clock = "benchmarks/ingestion.py"
    tests = ["-m", "pytest", "-m", "cuda", "tests/test_cuda.py"]
    return [
        Part("toy data", 60, toy, toy, "patches"),
        Part("sandbox", 60, probe, probe, "sandbox level"),
        Part(
            "refusals",
            60,
            ["benchmarks/gpu_parts/refusals.py"],
            ["benchmarks/gpu_parts/refusals.py"],
            "sandbox level",
        ),
        Part(
            *("timed run", 90),
            [*ingest, "--device", "cuda"],
            [*ingest, "--device", "cpu", "--subset", "2"],
            telling="sandbox:",
        ),
        Part("submissions", 120, ["tests/submissions/run_submissions.py", "--device", "cuda"], None),
        Part(
            *("harness", 60),
            [clock, "null", "--device", "cuda", "--runs", "3"],
            [clock, "null", "--patches", "10", "--runs", "1"],
        ),
        Part("tests", 150, tests, tests),
        Part(
            *("bare loop", 90),
            [clock, "bare", "--device", "cuda", "--runs", "3", "--block", "60"],
            [clock, "bare", "--runs", "2", "--block", "1"],
        ),
        Part(
            *("inference", 60),
            ["benchmarks/inference.py", "--batch", "1", "8", "32", "--roofline"],
            ["benchmarks/inference.py", "--dates", "12", "--roofline"],
            telling="at most",
        ),
        Part(
            *("packages", 60),
            ["benchmarks/gpu_parts/packages.py", "--batch", "1", "8", "32"],
            ["benchmarks/gpu_parts/packages.py", "--config", "demo"],
            telling="B=",
        ),
        Part(
            *("training step", 60),
            ["benchmarks/training_step.py", "--batch", "10", "--dates", "55"],
            ["benchmarks/training_step.py", "--batch", "1"],
            telling="ms a patch",
        ),
        Part(
            *("compiled", 90),
            ["benchmarks/inference.py", "--dates", "55", "--batch", "8", "--compiled"],
            cpu=None,  # minutes
            telling="at most",
        ),
        Part(
            *("loader", 60),
            ["benchmarks/gpu_parts/loader.py", "--workers", "1", "16"],
            ["benchmarks/gpu_parts/loader.py", "--workers", "2", "--seconds", "2"],
            telling="patches/s",
        ),
        Part(
            "refusals compiled",
            90,
            ["benchmarks/gpu_parts/refusals.py", "--compiled"],
            None,
            "compiled model",
        ),
        Part("test set", 180, ["benchmarks/full_scale.py", "--device", "cuda"], None, "patches/s"),
        Part("scatter", 150, [clock, "models", "--device", "cuda", "--block", "60"], None),
    ]


def run_parts(parts: Sequence[Part], gpu: bool, output: Path, seconds: float) -> list[PartResult]:
    """Run one part after the other, within `seconds` altogether (longer without a GPU), and print results."""
    patience = 1 if gpu else PATIENCE
    end = time.monotonic() + seconds * patience
    results = []
    for part in parts:
        arguments = part.gpu if gpu else part.cpu
        left = end - time.monotonic()
        if arguments is None:
            result = PartResult(part.name, NOT_RUN, 0, "needs a GPU")
        elif left <= 0:
            result = PartResult(part.name, NOT_RUN, 0, "no time was left")
        else:
            result = run_part(part, arguments, output, min(part.seconds * patience, left))
        print(describe(result), flush=True)
        results.append(result)
    return results


def run_part(part: Part, arguments: Sequence[str], output: Path, seconds: float) -> PartResult:
    """Run one part; when its time is over, end all its processes."""
    log = output / f"{part.name.replace(' ', '_')}.log"
    begin = time.monotonic()
    with log.open("wb") as stream, ExitStack() as stack:
        with held_signals():  # one that came before the callback is there would leave the part running
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment(output),
                cwd=KIT,
                start_new_session=True,
            )
            stack.callback(end_processes, process)
        try:
            code = process.wait(seconds)
            state = FINE if code == 0 else f"failed, exit {code}"
        except subprocess.TimeoutExpired:
            state = f"stopped after {seconds:.0f} s"
    return PartResult(part.name, state, time.monotonic() - begin, telling_line(log, part.telling))


def end_processes(process: subprocess.Popen[bytes]) -> None:
    """End a part with the processes of its group.

    Asked first, it can end processes in groups of their own, such as a submission.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(output: Path) -> dict[str, str]:
    """The environment of a part: where the kit lies, installed or not, and the file for its figures."""
    folders = ("scoring_program", "ingestion_program", "starting_kit", "benchmarks")
    programs = [str(KIT / name) for name in folders]
    paths = [*programs, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FLAIR_RECORD": str(output / "record.md")}


def telling_line(log: Path, telling: str) -> str:
    """The last line that holds `telling`, else the last line. A progress bar's states count as lines."""
    lines = [line.strip() for line in log.read_text(errors="replace").replace("\r", "\n").splitlines()]
    said = [line for line in lines if line]
    return [*said[-1:], *(line for line in said if telling in line)][-1] if said else ""


def describe(result: PartResult) -> str:
    """One line of the table."""
    return f"{result.name:<18} {result.state:<20} {result.seconds:6.1f} s  {result.said}"


def main() -> None:
    """Run all parts, print the table, and write it beside the record's lines."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    begin = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    command = [sys.executable, "-c", DEVICE]
    facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"torch {facts['torch']}, CUDA {facts['cuda']}, {facts['gpu'] or 'no GPU'}", flush=True)
    left = 60 * MINUTES - (time.monotonic() - begin)
    parts = list_parts(OUTPUT / "data", OUTPUT)
    results = run_parts(parts, bool(facts["gpu"]), OUTPUT, left)
    table = "\n".join(describe(result) for result in results)
    (OUTPUT / "table.txt").write_text(table + "\n")
    print(f"\n{table}\n\n{time.monotonic() - begin:.0f} s; logs and record.md: {OUTPUT}")
    if any(result.state not in (FINE, NOT_RUN) for result in results):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
