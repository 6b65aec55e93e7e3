"""Troubles of long runs on shared machines, caused here: no half result is left, and no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from entries import copy_sleeper, copy_submission
from ingest_command import INGEST, environment, ingest_command, leftovers, run_ingest

from flair_ingestion.predictions import write_output
from flair_ingestion.processes.process_tree import children
from programs import wait_until

DRIVER = f"""
import os, resource, runpy, shutil, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background programs ignore it
sys.path[:0] = [{str(INGEST.parent)!r}, {str(INGEST.parents[1] / "scoring_program")!r}]
from flair_ingestion import predictions, session
from flair_ingestion.sandbox import child
from flair_ingestion.sandbox import scratch

def before(owner, name, action):
    original = getattr(owner, name)
    def replaced(*arguments, **options):
        action()
        return original(*arguments, **options)
    setattr(owner, name, replaced)

def fill_the_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

{{trouble}}
sys.argv[0] = {str(INGEST)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An OUTPUT folder of an earlier run that failed, in a folder of its own."""
    folder = tmp_path / "outputs" / "output"
    write_output(folder, {"verdict": "failed"}, None, None, False)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_with(
    trouble: str, folder: Path, data: Path, output: Path, submission: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ingest.py after the lines of Python in `trouble`; asserts that nothing is left behind."""
    (folder / "driver.py").write_text(DRIVER.format(trouble=trouble))
    submission = submission or copy_submission("honest_numpy", folder)
    done = run_ingest(folder, data, submission, output, "--limit-ratio", 0, program=folder / "driver.py")
    assert "Traceback" not in done.stderr
    return done


def start_sleeper(folder: Path, data: Path, output: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Start a run and wait until its submission gets its first requests."""
    command = ingest_command(data, copy_sleeper(folder, seconds), output, "--limit-ratio", 0)
    run = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(folder))
    told = b""
    assert run.stderr
    while b"submission:" not in told:
        told += run.stderr.read(1)
        assert run.poll() is None, told
    return run


def test_a_submission_that_the_system_kills_has_failed(
    flair_tree: Path, tmp_path: Path, output: Path
) -> None:
    run = start_sleeper(tmp_path, flair_tree, output, 0.5)
    (child,) = children(run.pid)
    os.kill(child, signal.SIGKILL)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 3
    assert b"was killed by SIGKILL; perhaps the machine ran out of memory" in told
    assert sorted(content(output)) == ["manifest.json", "timing.json"]
    timing = json.loads((output / "timing.json").read_text())
    assert timing["verdict"] == "failed"
    assert "SIGKILL" in timing["reason"]
    assert not leftovers(tmp_path)


def test_without_room_for_predictions_the_run_ends_and_output_stays(
    flair_tree: Path, tmp_path: Path, output: Path
) -> None:
    before = content(output)
    trouble = "before(predictions.Spool, 'add', fill_the_disk)"
    small = copy_submission("honest_constant", tmp_path)  # its predictions fit in a buffer
    done = run_with(trouble, tmp_path, flair_tree, output, small)
    assert done.returncode == 2, done.stderr
    assert "MiB of predictions (File too large)" in done.stderr
    assert content(output.parent) == {f"output/{name}": file for name, file in before.items()}


def test_without_room_for_output_the_earlier_one_stays(
    flair_tree: Path, tmp_path: Path, output: Path
) -> None:
    before = content(output)
    done = run_with("before(predictions, '_fill', fill_the_disk)", tmp_path, flair_tree, output)
    assert done.returncode == 2, done.stderr
    assert "cannot be written (File too large); make room or choose another folder" in done.stderr
    assert content(output) == before
    assert os.listdir(output.parent) == ["output"]


def test_the_place_of_output_vanishes_during_the_run(flair_tree: Path, tmp_path: Path, output: Path) -> None:
    trouble = f"""
def vanish():
    shutil.rmtree({str(output.parent)!r})
    open({str(output.parent)!r}, "w").close()
before(session.Session, "end", vanish)"""
    done = run_with(trouble, tmp_path, flair_tree, output, copy_submission("honest_constant", tmp_path))
    assert done.returncode == 2, done.stderr
    assert f"{output}: cannot be written" in done.stderr


def test_output_that_cannot_be_made_is_refused_before_anything_runs(flair_tree: Path, tmp_path: Path) -> None:
    trouble = "before(child.Child, '__init__', lambda: os._exit(99))"
    done = run_with(trouble, tmp_path, flair_tree, Path("/proc/flair2/output"))
    assert done.returncode == 2, done.stderr
    assert "/proc/flair2/output: cannot be made" in done.stderr


@pytest.mark.long
def test_a_clock_that_is_set_changes_nothing(flair_tree: Path, tmp_path: Path, output: Path) -> None:
    trouble = """
jumps = iter(range(10**9))
time.time = lambda: 1.7e9 + (-1) ** next(jumps) * 1e7
time.time_ns = lambda: int(1e9 * time.time())"""
    sleeper = copy_sleeper(tmp_path, 0.2)
    done = run_with(trouble, tmp_path, flair_tree, output, sleeper)
    assert done.returncode == 0, done.stderr
    timing = json.loads((output / "timing.json").read_text())
    assert 1.2 <= timing["inference_seconds"] < 60  # the clock that the test sets jumps by 1e7 s
    assert 0 < timing["load_seconds"] < 60


def test_a_machine_that_stops_for_a_while_is_counted_and_no_error(
    flair_tree: Path, tmp_path: Path, output: Path
) -> None:
    """Signals stop the processes here, and the clock goes on; in a suspended machine it would not."""
    run = start_sleeper(tmp_path, flair_tree, output, 0.5)
    time.sleep(0.2)  # so that a request is running
    stopped = [run.pid, *children(run.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 0, told
    timing = json.loads((output / "timing.json").read_text())
    assert timing["inference_seconds"] > 6 * 0.5 + 2 - 0.5
    assert max(timing["latencies_ms"]) > 2000


INTERRUPTED = {
    "at the start": "before(session.Session, '__init__', interrupt)",
    "while the child starts": "before(session.Session, '_enter_sandbox', interrupt)",
    "while it loads": "before(session.Session, 'load', interrupt)",
    "while it warms up": "before(session, 'synthetic_request', interrupt)",
    "between requests": "before(predictions.Spool, 'add', interrupt)",
    "while it ends": "before(session.Session, 'end', interrupt)",
    "while OUTPUT is filled": "before(predictions, 'write_manifest', interrupt)",
    "twice": "before(session.Session, 'load', interrupt); before(scratch, '_remove', interrupt)",
}
ALWAYS = (
    "at the start",
    "while OUTPUT is filled",
    "twice",
)  # run by `make test`; the others by `make test-all`


@pytest.mark.parametrize(
    ("signum", "moment"),
    [
        pytest.param(
            signum,
            moment,
            id=f"{signum.name}-{moment}",
            marks=[] if signum == signal.SIGINT and moment in ALWAYS else pytest.mark.long,
        )
        for signum in (signal.SIGINT, signal.SIGTERM)
        for moment in INTERRUPTED
    ],
)
def test_an_interruption_leaves_output_as_it_was(
    flair_tree: Path, tmp_path: Path, output: Path, signum: int, moment: str
) -> None:
    before = content(output)
    trouble = f"def interrupt():\n    os.kill(os.getpid(), {signum})\n    time.sleep(0.01)\n"
    done = run_with(trouble + INTERRUPTED[moment], tmp_path, flair_tree, output)
    assert done.returncode == 128 + signum, done.stderr
    assert content(output) == before
    assert os.listdir(output.parent) == ["output"]


def test_an_interruption_while_output_is_replaced_comes_after_it(
    flair_tree: Path, tmp_path: Path, output: Path
) -> None:
    trouble = "before(predictions, '_replace', lambda: os.kill(os.getpid(), signal.SIGINT))"
    done = run_with(trouble, tmp_path, flair_tree, output)
    assert done.returncode == 130, done.stderr
    assert len(list((output / "predictions").iterdir())) == 6
    assert os.listdir(output.parent) == ["output"]


@pytest.mark.parametrize("sent", [1, 2], ids=["before the sandbox", "while it loads"])
def test_no_process_outlives_a_killed_parent(flair_tree: Path, tmp_path: Path, sent: int) -> None:
    """The parent dies right after it has sent a message that the child has not read yet."""
    trouble = f"""
count = iter(range(100))
send = child.Child.send
def send_and_die(self, *arguments):
    send(self, *arguments)
    if next(count) + 1 == {sent}:
        os.kill(os.getpid(), signal.SIGKILL)
child.Child.send = send_and_die"""
    (tmp_path / "driver.py").write_text(DRIVER.format(trouble=trouble))
    arguments = [
        flair_tree,
        copy_submission("hangs_in_init", tmp_path),
        tmp_path / "output",
        "--limit-ratio",
        0,
    ]
    command = ingest_command(*arguments, program=tmp_path / "driver.py")
    run = subprocess.run(command, env=environment(tmp_path), timeout=60, stderr=subprocess.PIPE)
    assert run.returncode == -signal.SIGKILL
    wait_until(lambda: not any(name.isdecimal() for name in leftovers(tmp_path)))


FAKE_RUNNER = """
import json, mmap, os, socket, sys, time
control = socket.socket(fileno=int(sys.argv[1]))
def send(**message):
    control.send(json.dumps(message).encode())
control.recv(1 << 16)
names = ("own_session", "no_new_privileges", "root_hidden", "network_refused")
send(sandboxed=dict.fromkeys(names, True))
send(ready={"versions": {}, "threads": 1, "accelerator": None})
kind = open(json.loads(control.recv(1 << 16))["load"] + "/model.py").read()
if kind == "hangs":
    time.sleep(99)
send(loaded={"batch_size": 2, "superpatch_size": 10})
_, descriptors, _, _ = socket.recv_fds(control, 1, 1)
labels = mmap.mmap(descriptors[0], 0)
if kind == "stays" and os.fork() == 0:
    os.setsid()
    time.sleep(99)
while True:
    message, descriptors, _, _ = socket.recv_fds(control, 17, 1)
    if message[:1] != b"g":
        break
    os.close(descriptors[0])
    if kind == "dies":
        os._exit(1)
    labels[:] = bytes(len(labels))
    control.send(b"d" + message[1:])
send(ended={})
"""
MANY_RUNS = """
import json, math, os, sys, tempfile, threading
from pathlib import Path
from flair_ingestion.sandbox import child
from flair_ingestion.processes import process_tree
from flair_ingestion.dataset import index_patches
from flair_ingestion.devices.device import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Attempt, Conditions, measure
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import FlairError

folder, runs = Path(sys.argv[2]), int(sys.argv[3])
child.RUNNER = folder / "runner.py"
(folder / "limits.yaml").write_text("load_seconds: 0.5")
limits = read_limits(folder / "limits.yaml")
conditions = Conditions(Device("cpu", None, None, {"cores": 1}), limits, math.inf, "none", [5])
patches = index_patches(Path(sys.argv[1]), "test")[:4]
found = []
for number in range(runs):
    kind = ("answers", "dies", "stays", "hangs")[number % 4]
    (folder / "submission").mkdir(exist_ok=True)
    (folder / "submission/model.py").write_text(kind)
    attempt = Attempt()
    try:
        measure(open_submission(folder / "submission", 1), patches, conditions, attempt)
    except FlairError as error:
        assert kind in ("dies", "hangs"), error
    assert attempt.completed is (kind in ("answers", "stays")), kind
    memory = int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
    files, below = len(os.listdir("/proc/self/fd")), len(process_tree.descendants(os.getpid()))
    found.append([files, below, threading.active_count(), len(os.listdir(tempfile.gettempdir())), memory])
print(json.dumps(found))
"""


@pytest.mark.parametrize("runs", [12, pytest.param(200, marks=pytest.mark.long)])
def test_many_runs_in_a_row_leak_nothing(flair_tree: Path, tmp_path: Path, runs: int) -> None:
    """In one process, with a light child that answers, dies, leaves a process behind or hangs, in turn."""
    (tmp_path / "runner.py").write_text(FAKE_RUNNER)
    (tmp_path / "many.py").write_text(MANY_RUNS)
    command = [sys.executable, tmp_path / "many.py", flair_tree, tmp_path, str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=500)
    assert done.returncode == 0, done.stderr
    found: list[list[Any]] = json.loads(done.stdout)
    assert len(found) == runs
    *first, memory = found[7]
    assert found[-1][:-1] == first
    assert found[-1][1] == 0
    assert found[-1][-1] < memory + 16
    assert not leftovers(tmp_path)
