"""The driver tells the same through its library and through nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest
from nvidia_driver import Driver

from flair_ingestion.devices.nvidia import (
    Bandwidth,
    Gpu,
    GpuState,
    Use,
    list_gpus,
    read_bandwidth,
    read_state,
    read_use,
)

T4 = Gpu("GPU-aaaa", 0, "NVIDIA T4", "550.1", 15360, 585, 40)
H200 = Gpu("GPU-bbbb", 1, "NVIDIA H200", "550.1", 143771, 1980, None)


@pytest.fixture(params=["library", "tool"])
def driver(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path / "driver", monkeypatch, request.param)


def test_the_gpus_are_listed(driver: Driver) -> None:
    assert list_gpus() == [T4, H200]


def test_who_uses_a_gpu(driver: Driver) -> None:
    assert read_use("GPU-bbbb") == Use(0, [])
    driver.set(1, percent=85, pids=[4711, 4712])
    assert read_use("GPU-bbbb") == Use(85, [4711, 4712])
    assert read_use("GPU-aaaa") == Use(0, [])
    driver.set(1, percent=None)
    assert read_use("GPU-bbbb").percent is None


def test_how_a_gpu_runs(driver: Driver) -> None:
    assert read_state("GPU-aaaa") == GpuState(585, 70.25, [])
    driver.set(0, clock=300, milliwatts=None, reasons=0x4 | 0x20)
    assert read_state("GPU-aaaa") == GpuState(300, None, ["power limit", "heat"])
    driver.set(0, clock=None, reasons=None)
    assert read_state("GPU-aaaa") == GpuState(None, None, [])


def test_what_a_gpu_can_move(driver: Driver, request: pytest.FixtureRequest) -> None:
    """Against the data sheets: T4 320 GB/s, H200 4.8 TB/s; links of 15.75 and 63 GB/s."""
    by_library = request.node.callspec.params["driver"] == "library"
    for uuid, memory, link in (("GPU-aaaa", 320e9, 15.75e9), ("GPU-bbbb", 4.8e12, 63e9)):
        found = read_bandwidth(uuid)
        assert found.link == pytest.approx(link, rel=0.01)
        assert found.memory == (pytest.approx(memory, rel=0.03) if by_library else None)
    driver.set(0, bus=None, generation=None)
    driver.set(1, memory_clock=None, lanes=None)
    assert read_bandwidth("GPU-aaaa") == read_bandwidth("GPU-bbbb") == Bandwidth(None, None)


def test_a_gpu_that_is_not_there_has_no_state(driver: Driver) -> None:
    assert read_state("GPU-cccc") == GpuState(None, None, [])
    assert read_use("GPU-cccc") == Use(None, [])
    assert read_bandwidth("GPU-cccc") == Bandwidth(None, None)


def test_without_library_and_tool_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(tmp_path / "driver", monkeypatch, "neither")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus() == []
    assert read_bandwidth("GPU-aaaa") == Bandwidth(None, None)
    assert read_state("GPU-aaaa") == GpuState(None, None, [])
