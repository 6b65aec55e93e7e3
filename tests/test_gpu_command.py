"""`make gpu`: each part runs within its time, whatever the others do; a table comes at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from holders import has_ended

import gpu
from common.roofline import Layer, Peaks, ideal_seconds, list_layers
from flair_ingestion.sandbox import entering, seccomp
from gpu import FINE, NOT_RUN, PATIENCE, Part, run_parts
from gpu_parts import refusals
from programs import wait_until

KIT = Path(__file__).parents[1]
OUTLIVES = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
ENDS_ITS_CHILD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
try:
    print(os.getpid(), child.pid, flush=True)
    time.sleep(600)
finally:
    child.kill()
"""
NO_GPU = """
from types import SimpleNamespace
__version__, version, cuda = "0", SimpleNamespace(cuda=None), SimpleNamespace(is_available=lambda: False)
"""
WITHOUT_NOHUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def part(name: str, source: str, folder: Path, seconds: float = 60, on_cpu: bool = True) -> Part:
    program = folder / f"{name}.py"
    program.write_text(source)
    return Part(name, seconds, [str(program), "GPU"], [str(program), "CPU"] if on_cpu else None)


def test_a_part_that_fails_or_hangs_does_not_keep_the_others_from_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        part("fails", "raise SystemExit('what is wrong')", tmp_path),
        part("hangs", OUTLIVES, tmp_path, seconds=3 / PATIENCE),
        part("needs", "print('never seen')", tmp_path, on_cpu=False),
        part("works", "import sys; print('first'); print('a\\rlast, ' + sys.argv[1])", tmp_path),
    ]
    results = run_parts(parts, False, tmp_path, 60)
    assert [(result.name, result.state, result.said) for result in results if result.name != "hangs"] == [
        ("fails", "failed, exit 1", "what is wrong"),
        ("needs", NOT_RUN, "needs a GPU"),
        ("works", FINE, "last, CPU"),
    ]
    assert results[1].state == "stopped after 3 s"
    assert not Path("/proc", results[1].said, "exe").exists()
    assert len(capsys.readouterr().out.splitlines()) == len(parts)
    (gpu_only,) = run_parts(parts[2:3], True, tmp_path, 60)
    assert (gpu_only.state, gpu_only.said) == (FINE, "never seen")


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_running_part_ends_with_the_command(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """The kit's first part goes on for ever, with a child in a group of its own, as a submission is."""
    for folder in ("benchmarks", "starting_kit"):
        (tmp_path / folder).mkdir()
    shutil.copyfile(KIT / "benchmarks/gpu.py", tmp_path / "benchmarks/gpu.py")
    (tmp_path / "starting_kit/make_toy_dataset.py").write_text(ENDS_ITS_CHILD)
    (tmp_path / "torch.py").write_text(NO_GPU)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    log, pids = tmp_path / "runs/gpu/toy_data.log", list[str]()
    command = subprocess.Popen(
        # The tests may run under nohup, which lets their processes ignore the end of the terminal
        [sys.executable, "-c", WITHOUT_NOHUP, tmp_path / "benchmarks/gpu.py"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"), 60)
        pids = log.read_text().split()
        command.send_signal(signum)
        said = command.communicate(timeout=60)[1]
        assert (command.returncode, "Traceback" in said) == (code, False)
        wait_until(lambda: all(map(has_ended, pids)))
    finally:
        command.kill()
        command.communicate()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize(("telling", "said"), [("", "c 3"), ("b", "b 2"), ("absent", "c 3")])
def test_the_most_telling_line_is_told(tmp_path: Path, telling: str, said: str) -> None:
    (tmp_path / "log").write_text("b 1\n 0 %\rb 2\n\nc 3\n \n")
    assert gpu.telling_line(tmp_path / "log", telling) == said
    (tmp_path / "log").write_text("")
    assert gpu.telling_line(tmp_path / "log", telling) == ""


def test_no_part_begins_when_the_time_is_over(tmp_path: Path) -> None:
    parts = [part(name, "import time; time.sleep(600)", tmp_path) for name in ("first", "second")]
    begin = time.monotonic()
    first, second = run_parts(parts, True, tmp_path, 2)
    assert time.monotonic() - begin < 60
    assert first.state == "stopped after 2 s"
    assert (second.state, second.said) == (NOT_RUN, "no time was left")


def test_parts_find_the_kit_and_write_no_line_into_the_record_itself(tmp_path: Path) -> None:
    source = "import flair_ingestion, flair_baseline, flair_scoring; "
    source += "from common.record import append_record; append_record('it', ['figure'])"
    before = (KIT / "benchmarks/RECORD.md").read_bytes()
    subprocess.run([sys.executable, "-c", source], check=True, env=gpu.environment(tmp_path), cwd=tmp_path)
    assert (KIT / "benchmarks/RECORD.md").read_bytes() == before
    assert "| `it` |" in (tmp_path / "record.md").read_text()


def test_every_part_is_a_program_of_the_kit(tmp_path: Path) -> None:
    parts = gpu.list_parts(tmp_path, tmp_path)
    programs = {part.gpu[0] for part in parts} - {"-m"}
    assert all((KIT / program).is_file() for program in programs)
    assert len({part.name for part in parts}) == len(parts)


FILTERED = """
import ctypes, os, runpy, socket, sys
input()
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
install = runpy.run_path(sys.argv[1])["install_filter"]
install(ctypes.CDLL(None), bytes.fromhex(sys.argv[2]))
def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    raise SystemExit(f"{action} {arguments} is not refused")
for _ in range(3):
    refused(os.setxattr, "/tmp", "user.x", b"")
if os.fork() == 0:
    os.chmod("/", 0)
    refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    refused(open, "/sys/kernel/notes", "w")
    os._exit(0)
os.wait()
"""


def test_a_trace_tells_what_the_sandbox_refuses_with_its_path_or_arguments() -> None:
    """Processes that the program starts are traced, too. Not even root may write into /sys/kernel/notes."""
    call_filter = seccomp.system_call_filter(None)
    assert call_filter
    line = [sys.executable, "-I", "-c", FILTERED, entering.__file__, call_filter.hex()]
    with refusals.start_tracer() as tracer:
        child = subprocess.Popen(line, stdin=subprocess.PIPE)
        assert refusals.begin_tracing(tracer, child.pid)
        child.communicate(b"\n")
        told = json.loads(tracer.communicate()[0])
    assert child.returncode == 0
    datagrams = next(what for what in told if what.startswith("socket"))
    assert datagrams.startswith(f"socket {socket.AF_INET:#x}, 0x")
    assert datagrams.endswith(": EPERM")
    assert told == {
        "setxattr: EPERM": 3,
        "chmod: no effect": 1,
        datagrams: 1,
        "openat /sys/kernel/notes: EACCES": 1,
    }


def test_a_process_that_cannot_be_traced_is_told() -> None:
    with refusals.start_tracer() as tracer:
        assert not refusals.begin_tracing(tracer, 2**22)  # no process has a number as high
        said = tracer.communicate()[1]
    assert tracer.returncode == 1
    assert said.startswith("tracing is not possible here: ")


def test_the_roofline_counts_every_layer_once() -> None:
    """Worked out by hand: two operations for each multiplication; the bytes of inputs and output."""
    image, kernel, matrix = torch.ones(2, 5, 64, 64), torch.ones(8, 5, 3, 3), torch.ones(3, 8)

    def run() -> torch.Tensor:
        features = torch.nn.functional.conv2d(image, kernel).relu().mean((2, 3))
        return torch.nn.functional.linear(features, matrix, torch.ones(3))

    convolution = Layer(2 * 2 * 62 * 62 * 8 * 5 * 9, 4 * (2 * 5 * 64 * 64 + 8 * 5 * 9 + 2 * 8 * 62 * 62))
    product = Layer(2 * 2 * 8 * 3, 4 * (3 + 2 * 8 + 8 * 3 + 2 * 3))
    assert list_layers(run) == [convolution, product]
    with torch.inference_mode():
        assert list_layers(run) == [convolution, product]
    peaks = Peaks(operations=1e9, bytes=1e9)
    assert ideal_seconds([Layer(3, 2), Layer(5, 7)], peaks) == pytest.approx(10e-9)


def test_the_roofline_counts_the_backward_pass() -> None:
    """Worked out by hand: gradients of the kernel alone are one product, those of the image another one."""
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    image, kernel, result = (4 * count for count in (2 * 3 * 256, 8 * 3 * 9, 2 * 8 * 256))
    product, bias = 2 * 2 * 256 * 8 * 3 * 9, 4 * 8
    forward = Layer(product, image + kernel + bias + result)
    pixels = torch.ones(2, 3, 16, 16)
    backward = Layer(product, result + image + kernel + kernel + bias)
    assert list_layers(lambda: convolution(pixels).sum().backward()) == [forward, backward]
    pixels.requires_grad_()
    backward = Layer(2 * product, result + image + kernel + image + kernel + bias)
    assert list_layers(lambda: convolution(pixels).sum().backward()) == [forward, backward]


@pytest.mark.long
def test_make_gpu_runs_here() -> None:
    """Without a GPU the parts with a version for the CPU run: four minutes on two quiet cores."""
    done = subprocess.run(["make", "gpu"], cwd=KIT, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "record.md: " in done.stdout
