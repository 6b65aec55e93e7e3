"""The device that a submission runs on: how it is chosen, its facts, its files, its use by one run alone."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flair_ingestion.devices import nvidia
from flair_scoring.base.errors import UsageError
from flair_scoring.base.locks import lock, unlock

_BUSY_PERCENT = 10  # more use by others makes a timing worthless
_BUSY_CHECKS = 5  # one per second: the figure for a run that has just ended falls slowly
_TOOL_SECONDS = 60
_NODES, _GPU_TABLE = Path("/dev"), Path("/proc/driver/nvidia/gpus")
# Device files that all GPUs share
_SHARED_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")
_CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # so that opening a pipe or a device does not wait
_REMEDY = "remove it, or set TMPDIR to a folder that you may write"
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
)


@dataclass(frozen=True)
class Device:
    """A device: `kind` is cpu or cuda, and `name` the model.

    `visible_gpu` is the value for CUDA_VISIBLE_DEVICES, None for a CPU; `facts` is what else is known.
    """

    kind: str
    name: str | None
    visible_gpu: str | None
    facts: dict[str, Any]

    @property
    def torch_name(self) -> str:
        """The device as torch in the child calls it; the child sees one GPU at most."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def choose_device(kind: str) -> Device:
    """The device for --device auto, cpu or cuda; raises UsageError if cuda is asked for and there is no GPU.

    Of several GPUs it is the first one that CUDA_VISIBLE_DEVICES names, or the first one of all. The value -1
    of that variable hides all GPUs.
    """
    facts: dict[str, Any] = {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0))}
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    gpus = [] if kind == "cpu" or chosen == "-1" else nvidia.list_gpus()
    unlisted = kind != "cpu" and not gpus and chosen != "-1" and Path("/dev/nvidiactl").exists()
    if kind == "cuda" and not gpus and not unlisted:
        raise UsageError(
            "--device cuda: the driver lists no GPU; use --device cpu or give the container a GPU (on a "
            "worker of the platform: USE_GPU=true and GPU_DEVICE in its .env)"
        )
    if gpus:
        found = [gpu for gpu in gpus if chosen in ("", str(gpu.index)) or gpu.uuid.startswith(chosen)]
        if not found:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES={chosen}: no such GPU; the driver lists {[gpu.uuid for gpu in gpus]}"
            )
        return Device("cuda", found[0].name, found[0].uuid, facts | asdict(found[0]))
    if unlisted:
        return Device("cuda", None, chosen or "0", facts)
    return Device("cpu", facts["cpu"], None, facts)


def require_idle(device: Device, told: str = "a time measured now would be worthless") -> None:
    """Raises UsageError, with `told`, if another process computes on the GPU.

    The CPU is not checked: it is never idle.
    """
    if device.visible_gpu is None or "uuid" not in device.facts:
        return
    for _ in range(_BUSY_CHECKS):
        use = nvidia.read_use(device.visible_gpu)
        if not use.pids and (use.percent or 0) <= _BUSY_PERCENT:
            return
        time.sleep(1)
    pids = ", ".join(map(_describe_process, use.pids)) or "not listed"
    percent = "an unknown share" if use.percent is None else f"{use.percent} %"
    raise UsageError(f"{device.name or 'the GPU'} is busy ({percent}, processes {pids}); {told}")


def _describe_process(pid: int) -> str:
    """The number of a process and, where this container sees it, its name."""
    try:
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return str(pid)


def create_gpu_nodes(device: Device, nodes: Path = _NODES) -> None:
    """Let the driver's own tool make the device file for unified memory if it is missing.

    Usually CUDA makes this file at its first use, through a program that runs as root. In the sandbox it
    cannot: a process there gains no rights by starting a program.
    """
    tool = shutil.which("nvidia-modprobe")
    if device.kind == "cuda" and tool and not (nodes / "nvidia-uvm").exists():
        with suppress(OSError, subprocess.SubprocessError):  # then torch finds no GPU, and that is told
            subprocess.run([tool, "-u", "-c", "0"], capture_output=True, timeout=_TOOL_SECONDS, check=False)


def gpu_nodes(device: Device, nodes: Path = _NODES, table: Path = _GPU_TABLE) -> list[str] | None:
    """The device files that a run on this GPU needs, without those of other GPUs; an empty list for a CPU.

    None if the driver's table, by default in /proc, does not tell which file is this GPU's.
    """
    if device.kind == "cpu":
        return []
    for information in sorted(table.glob("*/information")):
        with suppress(OSError):
            rows = [line.partition(":") for line in information.read_text(errors="replace").splitlines()]
            facts = {name.strip(): value.strip() for name, _, value in rows}
            own = nodes / f"nvidia{facts.get('Device Minor')}"
            if facts.get("GPU UUID") == device.visible_gpu and own.exists():
                return [str(own), *(str(nodes / name) for name in _SHARED_NODES if (nodes / name).exists())]
    return None


def all_gpu_nodes(nodes: Path = _NODES) -> list[str]:
    """The device files of all GPUs."""
    return sorted(str(path) for path in nodes.glob("nvidia*"))


@contextmanager
def exclusive_use(device: Device) -> Iterator[None]:
    """Wait until no other run of this user is timed on this device, and keep the device for this run."""
    name = re.sub(r"\W", "-", device.visible_gpu or device.kind)
    descriptor = _open_lock(f"{name}.lock")
    try:
        if not lock(descriptor, wait=False):
            told = (
                f"waiting: another run is timed on {device.name or device.kind}; this one goes on by itself"
            )
            print(told, file=sys.stderr)
            lock(descriptor, wait=True)
        yield
    finally:
        unlock(descriptor)  # also where a forked process still has the file open
        os.close(descriptor)


def _open_lock(name: str) -> int:
    """Open the lock file, in a folder of this user: in another folder, others could use the file's name."""
    folder = _open_lock_folder()
    path = _lock_folder() / name
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_RDONLY | _CAREFULLY, 0o600, dir_fd=folder)
    except OSError as error:
        raise UsageError(f"{path}: {_found(path, error)}; {_REMEDY}") from None
    finally:
        os.close(folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise UsageError(f"{path}: {_found(path)}; {_REMEDY}")


def _open_lock_folder() -> int:
    path = _lock_folder()
    try:
        with suppress(FileExistsError):
            path.mkdir(0o700)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CAREFULLY)
    except OSError as error:
        raise UsageError(f"{path}: {_found(path, error)}; {_REMEDY}") from None
    status = os.fstat(folder)
    fault = None
    if status.st_uid != os.geteuid():
        fault = f"belongs to user {status.st_uid}, and locks of user {os.geteuid()} are expected there"
    elif status.st_mode & 0o022:
        fault = f"others may write there (mode {stat.S_IMODE(status.st_mode):o}), expected 700"
    if fault:
        os.close(folder)
        raise UsageError(f"{path}: {fault}; {_REMEDY}")
    return folder


def _lock_folder() -> Path:
    return Path(tempfile.gettempdir(), f"flair2-{os.geteuid()}")


def _found(path: Path, error: OSError | None = None) -> str:
    """Why a lock file or its folder cannot be used: something else has its name, or what the error says."""
    expected = "a file" if path.suffix == ".lock" else "a folder"
    with suppress(OSError):
        kind = next((kind for test, kind in _KINDS if test(path.lstat().st_mode)), "a device")
        if kind != expected:
            return f"is {kind}, and {expected} with locks of this kit is expected there"
    return f"cannot be opened for a lock ({error.strerror if error else 'it has just changed'})"


def _cpu_name() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return None
