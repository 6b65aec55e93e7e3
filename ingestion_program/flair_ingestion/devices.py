"""The device that a submission runs on: which one, what is known of it, and that nothing else runs on it."""

from __future__ import annotations

import csv
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_scoring.errors import UsageError

_FIELDS = {  # as nvidia-smi calls them, and as timing.json does
    "uuid": "uuid",
    "index": "index",
    "name": "name",
    "driver_version": "driver_version",
    "memory.total": "memory_mib",
    "clocks.sm": "clock_mhz",
    "temperature.gpu": "temperature_celsius",
}
_BUSY_PERCENT = 10  # utilisation by others that makes a timing worthless
_BUSY_CHECKS = 5  # one per second: the load of a run that has just ended must fade first


@dataclass(frozen=True)
class Device:
    """`kind` is cpu or cuda, `name` the model, `visible_gpu` for CUDA_VISIBLE_DEVICES, `facts` the rest."""

    kind: str
    name: str | None
    visible_gpu: str | None
    facts: dict[str, Any]

    @property
    def torch_name(self) -> str:
        """The device as the child's torch calls it: it sees one GPU at most."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def choose_device(kind: str) -> Device:
    """The device for --device auto, cpu or cuda; raises UsageError if there is no GPU for cuda.

    With several GPUs it is the first one of CUDA_VISIBLE_DEVICES, else the first one; -1 hides them.
    """
    facts: dict[str, Any] = {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0))}
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    gpus = [] if kind == "cpu" or chosen == "-1" else _query("--query-gpu=" + ",".join(_FIELDS))
    unlisted = kind != "cpu" and not gpus and chosen != "-1" and Path("/dev/nvidiactl").exists()
    if kind == "cuda" and not gpus and not unlisted:
        raise UsageError(
            "--device cuda: nvidia-smi lists no GPU; use --device cpu or give the container a GPU"
        )
    if gpus:
        found = [gpu for gpu in gpus if chosen in ("", gpu[1]) or gpu[0].startswith(chosen)]
        if not found:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES={chosen}: no such GPU; nvidia-smi lists {[g[0] for g in gpus]}"
            )
        facts |= dict(zip(_FIELDS.values(), found[0], strict=True))
        return Device("cuda", found[0][2], found[0][0], facts)
    if unlisted:
        return Device("cuda", None, chosen or "0", facts)
    return Device("cpu", facts["cpu"], None, facts)


def require_idle(device: Device) -> None:
    """Raises UsageError if another process computes on the GPU. The CPU is not checked: it is never idle."""
    if device.kind == "cpu" or "uuid" not in device.facts:
        return
    for _ in range(_BUSY_CHECKS):
        load = _query("--query-gpu=utilization.gpu", f"--id={device.visible_gpu}")
        others = _query("--query-compute-apps=pid", f"--id={device.visible_gpu}")
        percent = int(load[0][0]) if load and load[0][0].isdecimal() else 0
        if not others and percent <= _BUSY_PERCENT:
            return
        time.sleep(1)
    pids = ", ".join(row[0] for row in others) or "not listed"
    raise UsageError(
        f"{device.name} is busy ({percent} %, processes {pids}); a time measured now would be worthless"
    )


@contextmanager
def exclusive_use(device: Device) -> Iterator[None]:
    """Wait until no other run of the kit times on this device, and keep it for this one."""
    name = re.sub(r"\W", "-", device.visible_gpu or device.kind)
    descriptor = _open_lock(Path(tempfile.gettempdir(), f"flair2-{name}.lock"))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting: another run is timed on {device.name or device.kind}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a forked process still has the file open
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """The lock file, readable is enough: other users of this machine lock the same one."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644))
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be locked ({error.strerror}); set TMPDIR to a writable folder"
        ) from None


def _query(*options: str) -> list[list[str]]:
    """Rows of nvidia-smi's answer; none where it is absent or fails."""
    command = ["nvidia-smi", *options, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in row] for row in csv.reader(answer.splitlines()) if row]


def _cpu_name() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return None
