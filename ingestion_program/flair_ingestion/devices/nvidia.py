"""What NVIDIA's driver tells of its GPUs, through its library NVML (nvidia-ml-py) or through nvidia-smi.

Both may be missing: a container has them only if it was given the driver's tools. What neither of them knows
is None, or is not listed.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

_GPU_FIELDS = ("uuid", "index", "name", "driver_version", "memory.total", "clocks.sm", "temperature.gpu")
_LINK_FIELDS = ("pcie.link.gen.max", "pcie.link.width.max")
_STATE_FIELDS = ("clocks.sm", "power.draw", "clocks_throttle_reasons.active")
# NVML's reasons why a clock is not higher, by their bits. Being idle (1) is left out
_REASONS = {
    0x2: "clocks set by the administrator",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "clocks shared with other GPUs",
    0x20: "heat",
    0x40: "heat, seen by the hardware",
    0x80: "power brake",
    0x100: "clocks for a display",
}
# Bytes a second of one lane, by the generation of PCI Express: transfers a second, less the line's coding
_LANE_RATES = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
_ANSWER_SECONDS = 30
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Gpu:
    """One GPU: `index` as nvidia-smi counts it, memory in MiB, clock of its processors in MHz."""

    uuid: str
    index: int
    name: str
    driver_version: str
    memory_mib: int | None
    clock_mhz: int | None
    temperature_celsius: int | None


@dataclass(frozen=True)
class Use:
    """The use of a GPU: `percent` of the time in which it computes, and the processes that compute on it."""

    percent: int | None
    pids: list[int]


@dataclass(frozen=True)
class GpuState:
    """How a GPU runs: the clock of its processors in MHz, power in watts, what keeps the clock down.

    `joules_per_patch` is the energy of a run divided by its patches; None for a single look.
    """

    clock_mhz: float | None
    power_watts: float | None
    reasons: list[str]
    joules_per_patch: float | None = None


@dataclass(frozen=True)
class Bandwidth:
    """What a GPU can move at most, in bytes a second: to and from its own memory, and over its link.

    The link is PCI Express between the GPU and the machine, in one direction.
    """

    memory: float | None
    link: float | None


def list_gpus() -> list[Gpu]:
    """All GPUs of this machine, in the order of nvidia-smi."""
    return _ask(_list_by_nvml, _list_by_smi)


def read_use(uuid: str) -> Use:
    """Who uses this GPU now."""
    return _ask(lambda nvml: _use_by_nvml(nvml, uuid), lambda: _use_by_smi(uuid))


def read_state(uuid: str) -> GpuState:
    """How this GPU runs now."""
    return _ask(lambda nvml: _state_by_nvml(nvml, uuid), lambda: _state_by_smi(uuid))


def read_bandwidth(uuid: str) -> Bandwidth:
    """What this GPU can move at most, by its highest clocks."""
    return _ask(lambda nvml: _bandwidth_by_nvml(nvml, uuid), lambda: _bandwidth_by_smi(uuid))


def _ask(by_nvml: Callable[[Any], Answer], by_smi: Callable[[], Answer]) -> Answer:
    """The answer of NVML, or that of nvidia-smi where NVML cannot be loaded or does not answer."""
    try:
        import pynvml

        pynvml.nvmlInit()  # stays open for the next question: opening it can take a second
    except Exception:  # pynvml is missing or fails, with errors of its own
        return by_smi()
    try:
        return by_nvml(pynvml)
    except pynvml.NVMLError:
        return by_smi()


def _list_by_nvml(nvml: Any) -> list[Gpu]:
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _optional(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        gpus.append(
            Gpu(
                nvml.nvmlDeviceGetUUID(handle),
                index,
                nvml.nvmlDeviceGetName(handle),
                nvml.nvmlSystemGetDriverVersion(),
                None if memory is None else memory.total >> 20,
                _optional(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
                _optional(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            )
        )
    return gpus


def _use_by_nvml(nvml: Any, uuid: str) -> Use:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    rates = _optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return Use(None if rates is None else rates.gpu, [process.pid for process in running])


def _state_by_nvml(nvml: Any, uuid: str) -> GpuState:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    milliwatts = _optional(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    return GpuState(
        _optional(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        None if milliwatts is None else milliwatts / 1000,
        _name_reasons(_optional(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
    )


def _bandwidth_by_nvml(nvml: Any, uuid: str) -> Bandwidth:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    bits = _optional(nvml, nvml.nvmlDeviceGetMemoryBusWidth, handle)
    megahertz = _optional(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM)
    # Two transfers in each cycle
    memory = bits / 8 * megahertz * 2e6 if bits and megahertz else None
    generation = _optional(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)
    lanes = _optional(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle)
    return Bandwidth(memory, _link_rate(generation, lanes))


def _link_rate(generation: int | None, lanes: int | None) -> float | None:
    rate = _LANE_RATES.get(generation or 0)
    return rate * lanes if rate and lanes else None


def _optional(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any | None:
    """The answer of one function of NVML; None where this GPU cannot tell."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _list_by_smi() -> list[Gpu]:
    rows = _run_smi("--query-gpu=" + ",".join(_GPU_FIELDS))
    return [
        Gpu(row[0], int(row[1]), row[2], row[3], *(_whole(cell) for cell in row[4:]))
        for row in rows
        if len(row) == len(_GPU_FIELDS)  # without a GPU, it prints a sentence
    ]


def _use_by_smi(uuid: str) -> Use:
    load = _run_smi("--query-gpu=utilization.gpu", f"--id={uuid}")
    processes = _run_smi("--query-compute-apps=pid", f"--id={uuid}")
    return Use(_whole(load[0][0]) if load else None, [int(pid) for (pid,) in processes if pid.isdecimal()])


def _state_by_smi(uuid: str) -> GpuState:
    rows = _run_smi("--query-gpu=" + ",".join(_STATE_FIELDS), f"--id={uuid}")
    if not rows:
        return GpuState(None, None, [])
    clock, power, reasons = rows[0]
    with suppress(ValueError):
        return GpuState(_number(clock), _number(power), _name_reasons(int(reasons, 16)))
    return GpuState(_number(clock), _number(power), [])


def _bandwidth_by_smi(uuid: str) -> Bandwidth:
    """The tool does not tell the width of the memory's bus."""
    rows = _run_smi("--query-gpu=" + ",".join(_LINK_FIELDS), f"--id={uuid}")
    return Bandwidth(None, _link_rate(*map(_whole, rows[0])) if rows else None)


def _run_smi(*options: str) -> list[list[str]]:
    """Rows of nvidia-smi's answer; none where it is absent or fails."""
    command = ["nvidia-smi", *options, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in row] for row in csv.reader(answer.splitlines()) if row]


def _number(cell: str) -> float | None:
    """None for "[N/A]"."""
    with suppress(ValueError):
        return float(cell)
    return None


def _whole(cell: str) -> int | None:
    number = _number(cell)
    return None if number is None else int(number)


def _name_reasons(bits: int | None) -> list[str]:
    return [name for bit, name in _REASONS.items() if (bits or 0) & bit]
