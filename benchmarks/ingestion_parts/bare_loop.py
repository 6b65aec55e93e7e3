"""The same patches under the clock and in a plain loop over the model; what differs is the kit's work."""

from __future__ import annotations

import functools
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from common.ratios import divide, standard_error
from common.record import KIT
from flair_ingestion.dataset import Patch
from flair_ingestion.measurement import Conditions
from flair_ingestion.sandbox import policy
from flair_ingestion.session import Session
from flair_ingestion.shared_memory import read_request, write_request
from flair_ingestion.submission import Submission, unpack

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
        # Contiguous, as a submission gets it; with the strides of the files torch would compute otherwise
        aerial = torch.from_numpy(request.aerial).contiguous()
        batch |= {"aerial": aerial, "metadata": request.metadata}
        start = time.perf_counter()
        labels = torch.as_tensor(model.predict(batch)).to("cpu", torch.uint8)
        spent += time.perf_counter() - start
    print(spent, flush=True)
"""


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
    """Seconds in a session, in a bare loop and in a second bare loop, measured one after the other.

    `first` says which of the three begins.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "submission").mkdir()
        unpack(submission, folder / "submission")
        # Started before the session, which stops every process that is started after it
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
        measure_block: list[Callable[[], float]] = [
            lambda: time_clocked(session, groups),
            *(functools.partial(ask, loop, groups) for loop in loops),
        ]
        seconds = [0.0] * len(measure_block)
        for turn in range(len(measure_block)):
            index = (first + turn) % len(measure_block)
            seconds[index] = measure_block[index]()
        for loop in loops:
            assert loop.stdin
            loop.stdin.close()
    return seconds


def start_bare_loop(folder: Path, data: Path, conditions: Conditions) -> subprocess.Popen[str]:
    """Start the plain loop in the environment of a sandboxed child; it waits for lines of groups of ids."""
    environment = policy.environment(folder, conditions.device.visible_gpu)
    programs = [str(KIT / name) for name in ("ingestion_program", "scoring_program")]
    command = [sys.executable, "-c", BARE, str(folder / "submission"), str(data)]
    command += [conditions.device.torch_name, *programs]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )


def ask(bare: subprocess.Popen[str], groups: Sequence[Sequence[Patch]]) -> float:
    """Seconds that the bare loop takes for these groups."""
    assert bare.stdin
    assert bare.stdout
    bare.stdin.write(" ".join(",".join(patch.id for patch in group) for group in groups) + "\n")
    bare.stdin.flush()
    return float(bare.stdout.readline())


def time_clocked(session: Session, groups: Sequence[Sequence[Patch]]) -> float:
    """Seconds under the clock that the session takes for these groups."""
    budget = session.budget("benchmark", "request_seconds")
    requests = (write_request(read_request(group, session.superpatch_size)) for group in groups)
    return math.fsum(session.predict(request, budget)[1] for request in requests)
