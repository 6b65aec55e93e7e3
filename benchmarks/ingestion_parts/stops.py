"""How often a stopped process is still seen at work, and how long a look at its threads takes."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from flair_ingestion.clock import clock
from flair_ingestion.processes.process_tree import thread_states
from flair_ingestion.sandbox import child as child_module
from flair_ingestion.sandbox import policy
from flair_ingestion.sandbox.child import Budget, Child
from flair_scoring.base.errors import UsageError

# Answers at once. Its other threads wake up a thousand times a second, as a library's do that polls
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


def time_stops(threads: int, stops: int) -> str:
    """Stop a process with so many threads again and again, while two loops keep two processors busy."""
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
