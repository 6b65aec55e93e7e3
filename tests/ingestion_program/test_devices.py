"""Devices, with a stand-in for nvidia-smi that answers as the real one."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from flair_ingestion import devices
from flair_ingestion.devices import Device, choose_device, exclusive_use, require_idle
from flair_scoring.errors import UsageError

GPUS = "GPU-aaaa, 0, NVIDIA T4, 550.1, 15360, 585, 40\nGPU-bbbb, 1, NVIDIA H200, 550.1, 143771, 1980, [N/A]\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder where `load` and `apps` hold what nvidia-smi answers for the chosen GPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        f"case $1 in --query-gpu=utilization*) cat {tmp_path}/load;; --query-compute*) cat {tmp_path}/apps;; "
        f"*) cat {tmp_path}/gpus;; esac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for name, content in {"gpus": GPUS, "load": "0\n", "apps": ""}.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "uuid"), [("", "GPU-aaaa"), ("1", "GPU-bbbb"), ("1,0", "GPU-bbbb"), ("GPU-bb", "GPU-bbbb")]
)
def test_the_first_visible_gpu_is_taken(
    smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str, uuid: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device = choose_device("auto")
    assert (device.kind, device.visible_gpu, device.torch_name) == ("cuda", uuid, "cuda:0")
    assert device.facts["driver_version"] == "550.1"


def test_gpus_can_be_hidden_or_not_asked_for(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu").kind == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert choose_device("auto").kind == "cpu"
    with pytest.raises(UsageError, match="lists no GPU"):
        choose_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=7: no such GPU"):
        choose_device("auto")


@pytest.mark.parametrize(("load", "apps", "says"), [("0", "4711\n", "4711"), ("85", "", "85 %")])
def test_a_busy_gpu_is_not_timed(smi: Path, load: str, apps: str, says: str) -> None:
    device = choose_device("cuda")
    require_idle(device)
    (smi / "load").write_text(load)
    (smi / "apps").write_text(apps)
    with pytest.raises(UsageError, match="is busy") as caught:
        require_idle(device)
    assert says in str(caught.value)


def test_one_timing_at_a_time_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    cpu, gpu = Device("cpu", None, None, {}), Device("cuda", None, "GPU-aaaa", {})
    entered = []

    def enter(device: Device) -> threading.Thread:
        def hold() -> None:
            with exclusive_use(device):
                entered.append(device.kind)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        return thread

    with exclusive_use(cpu):
        enter(gpu).join(60)
        waiting = enter(cpu)
        waiting.join(0.3)
        assert entered == ["cuda"]
    waiting.join(60)
    assert entered == ["cuda", "cpu"]
