"""A stand-in for NVIDIA's driver, which answers through a library and through nvidia-smi."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

GPUS: list[dict[str, Any]] = [
    {"uuid": "GPU-aaaa", "name": "NVIDIA T4", "memory": 15360, "clock": 585, "temperature": 40}
    | {"bus": 256, "memory_clock": 5001, "generation": 3, "lanes": 16},
    {"uuid": "GPU-bbbb", "name": "NVIDIA H200", "memory": 143771, "clock": 1980, "temperature": None}
    | {"bus": 6144, "memory_clock": 3201, "generation": 5, "lanes": 16},
]
IDLE: dict[str, Any] = {"percent": 0, "pids": [], "milliwatts": 70250, "reasons": 1}
# The names and units of NVML, https://docs.nvidia.com/deploy/nvml-api, as nvidia-ml-py has them
LIBRARY = """
import json
from pathlib import Path
from types import SimpleNamespace
HERE = Path(__file__).parent
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
class NVMLError(Exception):
    pass
def known(gpu, field):
    if gpu[field] is None:
        raise NVMLError("Not Supported")
    return gpu[field]
def gpus():
    return json.loads((HERE / "gpus.json").read_text())
def nvmlInit():
    if not (HERE / "library").exists():
        raise NVMLError("NVML Shared Library Not Found")
def nvmlSystemGetDriverVersion():
    return "550.1"
def nvmlDeviceGetCount():
    return len(gpus())
def nvmlDeviceGetHandleByIndex(index):
    return gpus()[index]
def nvmlDeviceGetHandleByUUID(uuid):
    for gpu in gpus():
        if gpu["uuid"] == uuid:
            return gpu
    raise NVMLError("Not Found")
def nvmlDeviceGetUUID(gpu):
    return gpu["uuid"]
def nvmlDeviceGetName(gpu):
    return gpu["name"]
def nvmlDeviceGetMemoryInfo(gpu):
    return SimpleNamespace(total=known(gpu, "memory") << 20)
def nvmlDeviceGetClockInfo(gpu, kind):
    assert kind == NVML_CLOCK_SM
    return known(gpu, "clock")
def nvmlDeviceGetTemperature(gpu, kind):
    return known(gpu, "temperature")
def nvmlDeviceGetUtilizationRates(gpu):
    return SimpleNamespace(gpu=known(gpu, "percent"), memory=0)
def nvmlDeviceGetComputeRunningProcesses(gpu):
    return [SimpleNamespace(pid=pid) for pid in known(gpu, "pids")]
def nvmlDeviceGetMemoryBusWidth(gpu):
    return known(gpu, "bus")
def nvmlDeviceGetMaxClockInfo(gpu, kind):
    assert kind == NVML_CLOCK_MEM
    return known(gpu, "memory_clock")
def nvmlDeviceGetMaxPcieLinkGeneration(gpu):
    return known(gpu, "generation")
def nvmlDeviceGetMaxPcieLinkWidth(gpu):
    return known(gpu, "lanes")
def nvmlDeviceGetPowerUsage(gpu):
    return known(gpu, "milliwatts")
def nvmlDeviceGetCurrentClocksThrottleReasons(gpu):
    return known(gpu, "reasons")
"""
TOOL = """
import json, sys
from pathlib import Path
gpus = json.loads(Path({gpus!r}).read_text())
asked = dict(option.lstrip("-").split("=", 1) for option in sys.argv[1:])
assert asked.pop("format") == "csv,noheader,nounits"
if "id" in asked:
    gpus = [gpu for gpu in gpus if gpu["uuid"] == asked["id"]]
if not gpus:
    sys.exit("No devices were found")
def cell(gpu, field):
    index = [other["uuid"] for other in json.loads(Path({gpus!r}).read_text())].index(gpu["uuid"])
    value = {{
        "uuid": gpu["uuid"], "index": index, "name": gpu["name"], "driver_version": "550.1",
        "memory.total": gpu["memory"], "clocks.sm": gpu["clock"], "temperature.gpu": gpu["temperature"],
        "utilization.gpu": gpu["percent"],
        "pcie.link.gen.max": gpu["generation"], "pcie.link.width.max": gpu["lanes"],
        "power.draw": gpu["milliwatts"] and gpu["milliwatts"] / 1000,
        "clocks_throttle_reasons.active": None if gpu["reasons"] is None else hex(gpu["reasons"]),
    }}[field]
    return "[N/A]" if value is None else str(value)
for gpu in gpus:
    if "query-compute-apps" in asked:
        print(*gpu["pids"], sep="\\n")
    else:
        print(", ".join(cell(gpu, field) for field in asked["query-gpu"].split(",")))
"""


class Driver:
    """Two GPUs; `through` is "library", "tool" or "neither"."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, through: str) -> None:
        folder.mkdir()
        self._gpus = folder / "gpus.json"
        self._state = [gpu | IDLE for gpu in GPUS]
        self._write()
        (folder / "pynvml.py").write_text(LIBRARY)
        if through == "library":
            (folder / "library").touch()
        if through == "tool":
            program, tool = folder / "nvidia_smi.py", folder / "nvidia-smi"
            program.write_text(TOOL.format(gpus=str(self._gpus)))
            # A `#!` line cannot name an interpreter whose path holds spaces
            tool.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(program)])} "$@"\n')
            tool.chmod(0o755)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def set(self, index: int, **facts: Any) -> None:
        """Change what the driver tells of one GPU from now on."""
        self._state[index] |= facts
        self._write()

    def _write(self) -> None:
        new = self._gpus.with_suffix(".new")
        new.write_text(json.dumps(self._state))
        new.replace(self._gpus)
