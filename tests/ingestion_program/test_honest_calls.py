"""Honest code under the filter of system calls: what libraries do to themselves still works."""

from __future__ import annotations

import filtered
import pytest

FILES = """
import fcntl, mmap, shutil, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    shutil.copy2(sys.executable, folder)
    shutil.copytree(folder, folder + "/copy")
    with open(folder + "/x", "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 4096)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        mmap.mmap(file.fileno(), 0).madvise(mmap.MADV_DONTNEED)
assert os.preadv(os.open(sys.executable, 0), [bytearray(9)], 0, 0) == 9
os.close(os.memfd_create("x"))
assert not os.isatty(1)
for end in os.pipe():
    os.set_blocking(end, False)
    os.set_inheritable(end, True)
"""
PROCESSES = """
import asyncio, concurrent.futures, multiprocessing, subprocess, sys
for options in ({"start_new_session": True}, {"preexec_fn": lambda: os.nice(1)}, {"close_fds": False}):
    subprocess.run([sys.executable, "-c", ""], check=True, **options)
started = subprocess.Popen(["sleep", "1000"])
started.terminate()
assert started.wait() == -15
with multiprocessing.Pool(2) as pool:
    assert pool.map(abs, [-1]) == [1]
with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
    assert list(pool.map(abs, [-2])) == [2]
assert os.spawnlp(os.P_WAIT, sys.executable, sys.executable, "-c", "import os; os.abort()") == -6
async def run():
    return await (await asyncio.create_subprocess_exec("true")).wait()
assert asyncio.run(run()) == 0
"""
THREADS = """
import faulthandler, multiprocessing.dummy, signal, socket, threading
assert multiprocessing.dummy.Pool(4).map(abs, [-1]) == [1]
faulthandler.dump_traceback_later(1000)
faulthandler.cancel_dump_traceback_later()
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
signal.raise_signal(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
assert len(seen) == 3
one, other = socket.socketpair()
one.setblocking(False)
other.send(b"x")
assert one.recv(1) == b"x"
"""
ITS_PLACE = """
mine = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(mine)})
assert os.sched_getaffinity(0) == mine
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.setpriority(os.PRIO_PROCESS, 0, 5)
os.nice(1)
assert libc.prctl(15, b"name", 0, 0, 0) == 0
assert libc.prctl(1, 2, 0, 0, 0) == 0
"""
TORCH = """
import subprocess, sys, numpy, torch
import torch.multiprocessing
torch.set_num_threads(4)
square = torch.rand(500, 500)
assert torch.isfinite(square @ square).all()
layer = torch.nn.Conv2d(3, 8, 3)
layer(torch.rand(2, 3, 64, 64)).sum().backward()
assert layer.weight.grad is not None
numpy.linalg.inv(numpy.eye(300))
torch.multiprocessing.start_processes(abs, nprocs=2, start_method="fork")  # it asks for a death signal
bound = "import torch; torch.set_num_threads(4); print((torch.ones(900, 900) @ torch.ones(900, 900))[0, 0])"
settings = os.environ | {"OMP_PROC_BIND": "true", "OMP_DISPLAY_ENV": "false"}
assert b"900" in subprocess.run([sys.executable, "-c", bound], env=settings, capture_output=True).stdout
"""


@pytest.mark.parametrize(
    "code",
    [FILES, PROCESSES, THREADS, ITS_PLACE, TORCH],
    ids=["files", "processes", "threads", "its settings", "torch"],
)
def test_the_filter_lets_honest_code_work(code: str) -> None:
    done = filtered.run(f"{code}\nprint('done')")
    assert done.stdout == "done\n", done.stderr


@pytest.mark.long
def test_models_and_compiling_work() -> None:
    """torch.compile has worker processes of its own, and a compiler."""
    done = filtered.run(
        """
import tempfile
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
import segmentation_models_pytorch, timm, torch
double = torch.compile(lambda numbers: (numbers * 2 + 1).relu().sum())
assert double(torch.ones(1000)) == 3000
for model in (
    segmentation_models_pytorch.Unet("mit_b0", encoder_weights=None, classes=13),
    timm.create_model("resnet18", pretrained=False),
):
    with torch.inference_mode():
        assert model.eval()(torch.rand(1, 3, 64, 64)).shape[0] == 1
print("done")
"""
    )
    assert done.stdout == "done\n", done.stderr
