"""What the sandbox refuses to an honest program: the system calls that fail while a model uses torch.

The program writes a submission that uses its device in the ways that models do, one after the other, and runs
it in the sandbox of a timed run. It prints each way and whether it works, then what the sandbox refused and
how often. Two refusals are the sandbox's own tests of itself: opening / and a socket of the network. The exit
code is 1 if a way that must work has failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from flair_ingestion.clock import clock
from flair_ingestion.devices.device import choose_device
from flair_ingestion.limits import read_limits
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import SubmissionError, run_command

SECONDS = 600.0
WIDTH = 150
MODEL = """
import json
import torch

MAY_FAIL = ("compiled model", "kernel compiled at run time")  # an image may have no compiler


def multiply(device):
    torch.ones(64, 64, device=device).matmul(torch.ones(64, 64, device=device)).sum().item()


def convolve(device):
    layer = torch.nn.Conv2d(5, 8, 3).to(device)
    layer(torch.ones(1, 5, 64, 64, device=device)).sum().backward()


def compute_in_bfloat16(device):
    with torch.autocast(device.type, torch.bfloat16):
        convolve(device)


def attend(device):
    torch.nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 4, 16, 32, device=device)).sum().item()


def copy_on_a_stream(device):
    if device.type == "cuda":
        pinned, stream = torch.ones(1 << 20).pin_memory(), torch.cuda.Stream()
        with torch.cuda.stream(stream):
            there = pinned.to(device, non_blocking=True)
        stream.synchronize()
        there.sum().item()


def replay_a_graph(device):
    if device.type == "cuda":
        source, graph = torch.ones(8, device=device), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            source.add_(1)
        graph.replay()
        torch.cuda.synchronize()


def compile_a_model(device):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()).to(device)
    torch.compile(model)(torch.ones(2, 8, device=device)).sum().item()


def compile_a_kernel(device):
    if device.type == "cuda":
        source = 'extern "C" __global__ void one(float* x) { x[threadIdx.x] = 1; }'
        target = torch.zeros(32, device=device)
        torch.cuda._compile_kernel(source, "one")((1, 1, 1), (32, 1, 1), (target,))
        assert target.sum().item() == 32


WAYS = {
    "product": multiply,
    "convolution and its gradient": convolve,
    "bfloat16": compute_in_bfloat16,
    "attention": attend,
    "pinned memory and a stream": copy_on_a_stream,
    "CUDA graph": replay_a_graph,
    "kernel compiled at run time": compile_a_kernel,
    "compiled model": compile_a_model,
}
WAYS = {name: use for name, use in WAYS.items() if (name == "compiled model") is COMPILED}


class Model:
    def __init__(self, submission_dir, device):
        broken = []
        for name, use in WAYS.items():
            try:
                use(device)
                print(f"{name}: works", flush=True)
            except Exception as error:
                lines = str(error).strip().splitlines() or [""]
                print(f"{name}: FAILED: {type(error).__name__}: {lines[0][:300]}", flush=True)
                broken += [name] * (name not in MAY_FAIL)
        if broken:
            raise RuntimeError("what must work does not: " + ", ".join(broken))

    def predict(self, batch):
        raise NotImplementedError
"""


def main() -> None:
    """Trace the submission and print what was refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="only torch.compile, which takes minutes under a trace"
    )
    args = parser.parse_args()
    level, said, refused, failure = trace(args.device, args.compiled)
    print(*said, sep="\n")
    if isinstance(refused, str):
        print(refused)
    else:
        for what, times in sorted(refused.items(), key=lambda item: -item[1]):
            print(f"{times:6}  {what[:WIDTH]}")
        print(f"sandbox level {level}: {len(refused)} kinds of calls refused or without effect")
    if failure:
        sys.exit(f"error: {failure}")


def trace(kind: str, compiled: bool) -> tuple[str, list[str], dict[str, int] | str, str | None]:
    """The sandbox's level, what the model printed, the refused calls with their counts, and a failure.

    In place of the calls stands a sentence where this machine does not allow tracing.
    """
    device, limits = choose_device(kind), read_limits()
    failure = None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "model.py").write_text(f"COMPILED = {compiled}\n{MODEL}")
        submission = open_submission(folder, limits.submission_mib)
        tracer = stack.enter_context(start_tracer())  # before the session, which ends later processes
        session = Session(submission, device, limits, clock() + SECONDS)
        try:
            with session:
                tracing = begin_tracing(tracer, session.child.pid)
                session.start("none")
                session.load()
        except SubmissionError as error:
            failure = str(error)
        told = tracer.communicate()
        refused = json.loads(told[0]) if tracing and tracer.returncode == 0 else told[1].strip()
        return session.sandbox_level, session.child.last_output(), refused, failure


def start_tracer() -> subprocess.Popen[str]:
    """Start tracing.py, which waits for the number of a process."""
    program = Path(__file__).with_name("tracing.py")
    return subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def begin_tracing(tracer: subprocess.Popen[str], pid: int) -> bool:
    """Let the tracer follow a process; return whether it can."""
    assert tracer.stdin
    assert tracer.stdout
    tracer.stdin.write(f"{pid}\n")
    tracer.stdin.flush()
    return tracer.stdout.readline().strip() == "tracing"


if __name__ == "__main__":
    run_command(main)
