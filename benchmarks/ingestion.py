"""What the clock costs: the harness alone, beside a bare loop, as wall time, and how far its ratios scatter.

Data: the toy set's images with series of 55 dates, FLAIR #2's mean, in windows of 40 x 40 pixels.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flair_ingestion import measurement
from flair_ingestion.clock import clock
from flair_ingestion.dataset import Patch, index_patches, sample_patches
from flair_ingestion.devices.device import Device, choose_device, exclusive_use, require_idle
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Attempt, Conditions, measure, series_lengths
from flair_ingestion.predictions import Spool
from flair_ingestion.processes.process_tree import thread_states
from flair_ingestion.reading import Groups, Readers, Requests, read_here, start_readers
from flair_ingestion.reference import NULL_SUBMISSION, open_reference
from flair_ingestion.sandbox import child as child_module
from flair_ingestion.sandbox import policy
from flair_ingestion.sandbox.child import Budget, Child
from flair_ingestion.session import Session
from flair_ingestion.shared_memory import read_request, write_request
from flair_ingestion.submission import Submission, open_submission, unpack
from flair_scoring.base.errors import UsageError, run_command
from flair_toy.areas import SIZES, Share, Size
from flair_toy.dataset import make_toy_dataset
from record import KIT, append_record

DATES, SEED = 55, 2022
PACKAGES = ("torch", "numpy")
SLEEPER = """
import time, torch
class Model:
    def __init__(self, submission_dir, device):
        self.labels = torch.zeros(1, 512, 512, dtype=torch.uint8)
    def predict(self, batch):
        time.sleep({seconds})
        return self.labels
"""
# Busy for so long, as a program that waits for a GPU
FAKE_DEVICE = """
import time, torch
class Model:
    batch_size = 10
    def __init__(self, submission_dir, device):
        self.labels = torch.zeros(self.batch_size, 512, 512, dtype=torch.uint8)
    def predict(self, batch):
        count = len(batch["metadata"])
        end = time.perf_counter() + count * {seconds}
        while time.perf_counter() < end:
            pass
        return self.labels[:count]
"""
FAKE_SECONDS = 0.002  # a patch
# Answers at once; its other threads wake up a thousand times a second, as those of a library that polls
STUB = """
import socket, sys, threading, time
control = socket.socket(fileno=int(sys.argv[1]))
def poll():
    while True:
        time.sleep(0.001)
for _ in range({threads} - 1):
    threading.Thread(target=poll, daemon=True).start()
control.send(b"ready")
while control.recv(1) == b"g":
    control.send(b"d")
"""
BUSY_LOOPS = 2
BARE = """
import sys, time
from pathlib import Path
folder, data, device = sys.argv[1:4]
sys.path[:0] = [folder, *sys.argv[4:]]
import torch
from model import Model
from flair_ingestion.dataset import index_patches
from flair_ingestion.shared_memory import read_request
model = Model(Path(folder), torch.device(device))
patches = {patch.id: patch for patch in index_patches(Path(data), "test")}
for line in sys.stdin:
    spent = 0.0
    for group in line.split():
        members = [patches[id] for id in group.split(",")]
        request = read_request(members, getattr(model, "superpatch_size", 40))
        series = ("sentinel", "sentinel_masks", "sentinel_dates")
        batch = {key: [torch.from_numpy(array) for array in getattr(request, key)] for key in series}
        # in the order of the interface: as files have it, torch would compute in another memory format
        aerial = torch.from_numpy(request.aerial).contiguous()
        batch |= {"aerial": aerial, "metadata": request.metadata}
        start = time.perf_counter()
        labels = torch.as_tensor(model.predict(batch)).to("cpu", torch.uint8)
        spent += time.perf_counter() - start
    print(spent, flush=True)
"""
# What the child does for the null submission, without a session around it: no stop, no sandbox, no parent
ALONE = """
import mmap, os, statistics, sys, time
sys.path[:0] = sys.argv[2:]
import torch
from flair_ingestion.shared_memory import synthetic_request, write_request
from flair_ingestion.sandbox.runner import map_request, read_batch, write_labels
from null_submission.model import Model
model, pause = Model(None, None), float(sys.argv[1])
request = write_request(synthetic_request([{dates}], 40))
target = torch.frombuffer(mmap.mmap(-1, 512 * 512), dtype=torch.uint8).reshape(1, 512, 512)
seconds = []
for _ in range({requests}):
    time.sleep(pause)
    descriptor = os.dup(request.descriptor)
    start = time.perf_counter()
    batch = read_batch(map_request(descriptor))
    write_labels(model.predict(batch), target)
    del batch
    seconds.append(time.perf_counter() - start)
print(statistics.mean(seconds))
"""
READING_SECONDS = 0.016  # about what reading a patch of the benchmark's data takes


def time_null(patches: Sequence[Patch], conditions: Conditions, runs: int) -> list[str]:
    """The null submission, in fresh processes, beside its steps alone: what a pause costs on this machine."""
    source = (NULL_SUBMISSION / "model.py").read_text()
    told = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in (1, 10, 32):
            null = Path(folder, str(batch))
            null.mkdir()
            (null / "model.py").write_text(source.replace("batch_size = 10", f"batch_size = {batch}"))
            opened, found = open_submission(null, 1), []
            for _ in range(runs):
                attempt = Attempt()
                measure(opened, patches, conditions, attempt)
                found.append(1000 * attempt.seconds / len(patches))
            told.append(
                f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}) at batch {batch}"
            )
    rested, busy = (1000 * time_alone(pause, runs, len(patches)) for pause in (READING_SECONDS, 0))
    return [
        f"null submission, ms per patch inside the clock, {DATES} dates, 40 x 40, median of {runs} runs: "
        f"{', '.join(told)}; the child's steps alone, in a process without stops, at batch 1: {rested:.3f} "
        f"after pauses of {1000 * READING_SECONDS:g} ms, {busy:.3f} without pauses"
    ]


def time_alone(pause: float, runs: int, requests: int) -> float:
    """Seconds a request of one patch takes without a session, in fresh processes; the median of `runs`."""
    program = ALONE.format(dates=DATES, requests=requests)
    programs = [str(KIT / name) for name in ("ingestion_program", "scoring_program")]
    command = [sys.executable, "-c", program, str(pause), *programs]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)
    )


def time_stops(threads: int, stops: int) -> str:
    """Stops of a process with this many threads, beside two loops that keep two processors busy."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub = folder / "stub.py"
        stub.write_text(STUB.format(threads=threads))
        for _ in range(BUSY_LOOPS):
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        policy.shield_parent()
        stack.callback(setattr, child_module, "RUNNER", child_module.RUNNER)
        child_module.RUNNER = stub
        child = Child({}, folder, 32, 4, math.inf)
        stack.callback(child.close)
        budget = Budget("benchmark", 60, UsageError("the stub does not answer"))
        child.receive(budget)
        looks: list[float] = []
        for _ in tqdm(range(stops), f"{threads} threads", mininterval=1):
            child.end_gap()
            child.send(b"g")
            child.thaw()
            child.receive(budget)
            child.freeze()
            begin = clock()
            thread_states(child.look())
            looks.append(clock() - begin)
        child.end_gap()
        gaps = child.gaps
    look = 1000 * statistics.median(looks)
    refused = "" if not gaps.too_many(stops) else ", which REFUSES the run"
    return (
        f"{threads} threads: {gaps.total} stops, unconfirmed {gaps.unconfirmed}, active {gaps.active} "
        f"({gaps.restless / gaps.total:.5%} of the gaps){refused}; one look {look:.3f} ms, "
        f"{look / threads:.4f} a thread"
    )


def compare_with_bare_loop(
    submission: Submission, data: Path, patches: Sequence[Patch], conditions: Conditions, runs: int
) -> list[str]:
    """The same patches through a session and through two plain loops, each in a fresh process each time.

    One process can be slower than another that does the same. The two loops show by how much.
    """
    times = [
        time_beside_bare_loops(submission, data, patches, conditions, first=run)
        for run in tqdm(range(runs), "bare", mininterval=1)
    ]
    clocked, plain, again = zip(*times, strict=True)
    told = [
        f"{statistics.mean(ratios):.4f} of that (standard error {standard_error(ratios):.4f})"
        for ratios in (divide(clocked, plain), divide(again, plain))
    ]
    return [
        f"{submission.source.name}: {1000 * statistics.median(plain) / len(patches):.1f} ms per patch in a "
        f"bare loop; clocked {told[0]}; a second bare loop {told[1]}; means of {runs} runs of "
        f"{len(patches)} patches, each in fresh processes"
    ]


def time_beside_bare_loops(
    submission: Submission, data: Path, patches: Sequence[Patch], conditions: Conditions, first: int
) -> list[float]:
    """Seconds in a session, in a bare loop and in another one, in turn; `first` says where to begin."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "submission").mkdir()
        unpack(submission, folder / "submission")
        # Before the session: what is started later is taken for the submission's, and stopped
        loops = [stack.enter_context(start_bare_loop(folder, data, conditions)) for _ in range(2)]
        session = stack.enter_context(
            Session(submission, conditions.device, conditions.limits, conditions.wall)
        )
        session.start("none")
        session.load()
        size = session.batch_size
        groups = [patches[start : start + size] for start in range(0, len(patches), size)]
        counts = sorted({len(group) for group in groups}, reverse=True)
        session.warm_up(counts, conditions.series_lengths)
        for loop in loops:
            ask(loop, groups)  # its warm-up
        measure_block = [
            lambda: time_clocked(session, groups),
            *(functools.partial(ask, loop, groups) for loop in loops),
        ]
        seconds = [0.0] * len(measure_block)
        for turn in range(len(measure_block)):
            which = (first + turn) % len(measure_block)
            seconds[which] = measure_block[which]()
        for loop in loops:
            assert loop.stdin
            loop.stdin.close()
    return seconds


def divide(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Ratios of pairs."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values."""
    return statistics.stdev(values) / math.sqrt(len(values))


def start_bare_loop(folder: Path, data: Path, conditions: Conditions) -> subprocess.Popen[str]:
    """The plain loop with the environment of a sandboxed child, waiting for lines of groups of ids."""
    environment = policy.environment(folder, conditions.device.visible_gpu)
    programs = [str(KIT / name) for name in ("ingestion_program", "scoring_program")]
    command = [sys.executable, "-c", BARE, str(folder / "submission"), str(data)]
    command += [conditions.device.torch_name, *programs]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )


def ask(bare: subprocess.Popen[str], groups: Sequence[Sequence[Patch]]) -> float:
    """Seconds of one block in the bare loop."""
    assert bare.stdin
    assert bare.stdout
    bare.stdin.write(" ".join(",".join(patch.id for patch in group) for group in groups) + "\n")
    bare.stdin.flush()
    return float(bare.stdout.readline())


def time_clocked(session: Session, groups: Sequence[Sequence[Patch]]) -> float:
    """Seconds of one block under the clock."""
    budget = session.budget("benchmark", "request_seconds")
    requests = (write_request(read_request(group, session.superpatch_size)) for group in groups)
    return math.fsum(session.predict(request, budget)[1] for request in requests)


def compare_wall_time(submission: Submission, patches: Sequence[Patch], conditions: Conditions) -> list[str]:
    """From the first patch's reading to the last one's labels in the spool, as ingestion runs it."""
    if conditions.device.kind == "cuda":
        return ["wall time: not measured on CUDA, where other processes read"]
    reading: list[tuple[float, float]] = []
    delivered: list[float] = []
    attempt = Attempt()

    def read(groups: Groups, size: int) -> Requests:
        requests = read_here(groups, size)
        for _ in groups:
            begin = clock()
            request = next(requests)
            reading.append((begin, clock()))
            yield request

    with Spool(len(patches), 1) as spool:
        spool.begin_attempt()

        def deliver(*arguments: Any) -> None:
            spool.add(*arguments)
            delivered.append(clock())

        measurement.read_here = read
        try:
            measure(submission, patches, conditions, attempt, deliver=deliver)
        finally:
            measurement.read_here = read_here
    wall, read_seconds = delivered[-1] - reading[0][0], math.fsum(end - begin for begin, end in reading)
    ratio = wall / (read_seconds + attempt.seconds)
    return [
        f"wall time {wall:.2f} s for {len(patches)} patches: {ratio:.3f} of "
        f"reading {read_seconds:.2f} s and inference {attempt.seconds:.2f} s"
    ]


def compare_readers(patches: Sequence[Patch], conditions: Conditions, runs: int) -> list[str]:
    """The time of a device that takes 2 ms a patch, with readers beside it as on CUDA, and without."""
    beside, here = [], []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.py").write_text(FAKE_DEVICE.format(seconds=FAKE_SECONDS))
        submission = open_submission(Path(folder), 1)
        original = measurement.work_beside
        for run in range(runs):
            for found, replacement in [(beside, read_beside), (here, original)][:: 1 if run % 2 else -1]:
                attempt = Attempt()
                measurement.work_beside = replacement
                try:
                    measure(submission, patches, conditions, attempt)
                finally:
                    measurement.work_beside = original
                found.append(attempt.seconds)
    ratios = divide(beside, here)
    clocked = 1000 * statistics.median(here) / len(patches)
    return [
        f"a device that takes {1000 * FAKE_SECONDS:g} ms a patch, {clocked:.2f} inside the clock: with "
        f"readers beside {statistics.mean(ratios):.4f} of that (standard error "
        f"{standard_error(ratios):.4f}, {runs} runs of {len(patches)} patches)"
    ]


@contextmanager
def read_beside(_: Device) -> Iterator[tuple[Readers, None]]:
    """The readers alone: there is no GPU to be looked at."""
    with start_readers() as readers:
        yield readers, None


def scatter_of_sleepers(patches: Sequence[Patch], conditions: Conditions, runs: int) -> list[str]:
    """A sleeping submission against a sleeping reference."""
    with tempfile.TemporaryDirectory() as folder:
        sleepers = []
        for milliseconds in (20, 40):
            sleeper = Path(folder, str(milliseconds))
            sleeper.mkdir()
            (sleeper / "model.py").write_text(SLEEPER.format(seconds=milliseconds / 1000))
            sleepers.append(open_submission(sleeper, 1))
        told = scatter_of_ratio(sleepers[0], sleepers[1], patches, conditions, runs)
    return [f"a submission that sleeps 40 ms per patch to a reference that sleeps 20: {told}"]


def scatter_of_models(
    submission: Submission, patches: Sequence[Patch], conditions: Conditions, runs: int
) -> list[str]:
    """A model against itself."""
    told = scatter_of_ratio(submission, submission, patches, conditions, runs)
    return [f"{submission.source.name} to itself: {told}"]


def scatter_of_ratio(
    reference: Submission, submission: Submission, patches: Sequence[Patch], conditions: Conditions, runs: int
) -> str:
    """Mean and coefficient of variation of the ratio of times, each in a fresh process each time."""
    ratios = []
    for _ in range(runs):
        unit, attempt = Attempt(), Attempt()
        measure(reference, patches, conditions, unit)
        measure(submission, patches, conditions, attempt)
        ratios.append(attempt.seconds / unit.seconds)
    mean = statistics.mean(ratios)
    return (
        f"ratio {mean:.4f}, coefficient of variation {statistics.stdev(ratios) / mean:.2%} over {runs} runs "
        f"of {len(patches)} patches"
    )


def main() -> None:
    """Measure all of it, or what was named, and append each to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("null", "bare", "wall", "readers", "noise", "models", "stops")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--patches", type=int, default=60, help="at most 125 (default: %(default)s)")
    parser.add_argument(
        "--block", type=int, default=10, help="patches at a time for bare and models (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=10, help="runs and blocks (default: %(default)s)")
    parser.add_argument(
        "--stops", type=int, default=2000, help="for each number of threads (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--submission", type=Path, help="for bare, wall and models; default: reference_submission/"
    )
    args = parser.parse_args()
    if unknown := set(args.what) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(names)}")
    device, limits = choose_device(args.device), read_limits().with_options(0, None)
    submission = open_reference(args.submission, limits.submission_mib)
    one = Share(1, 1, 1)
    SIZES["benchmark"] = Size({"train": one, "val": one, "test": Share(5, 1, 25)}, (DATES, DATES))
    with tempfile.TemporaryDirectory() as folder, exclusive_use(device):
        data = Path(folder, "data")
        make_toy_dataset(data, "benchmark", SEED)
        require_idle(device)
        patches = sample_patches(index_patches(data, "test"), args.patches, SEED)
        conditions = Conditions(
            device, limits, clock() + limits.wall_seconds, "none", series_lengths(patches)
        )
        measurements: dict[str, Callable[[], list[str]]] = {
            "null": lambda: time_null(patches, conditions, args.runs),
            "bare": lambda: compare_with_bare_loop(
                submission, data, patches[: args.block], conditions, args.runs
            ),
            "wall": lambda: compare_wall_time(submission, patches, conditions),
            "readers": lambda: compare_readers(patches, conditions, args.runs),
            "noise": lambda: scatter_of_sleepers(patches, conditions, args.runs),
            "models": lambda: scatter_of_models(submission, patches[: args.block], conditions, args.runs),
            "stops": lambda: [time_stops(threads, args.stops) for threads in (1, 8, 64)],
        }
        for name in args.what or names:
            command = " ".join(["python benchmarks/ingestion.py", name, *sys.argv[1 + len(args.what) :]])
            append_record(command, measurements[name](), PACKAGES)


if __name__ == "__main__":
    run_command(main)
