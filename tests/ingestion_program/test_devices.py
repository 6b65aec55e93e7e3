"""Devices, with a stand-in for NVIDIA's driver."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shlex
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from nvidia_driver import Driver

from flair_ingestion.devices import device as devices
from flair_ingestion.devices.device import (
    Device,
    choose_device,
    create_gpu_nodes,
    exclusive_use,
    gpu_nodes,
    require_idle,
)
from flair_scoring.base.errors import UsageError

CPU, FOLDER = Device("cpu", None, None, {}), f"flair2-{os.geteuid()}"


@pytest.fixture(params=["library", "tool"])
def two_gpus(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return Driver(tmp_path / "driver", monkeypatch, request.param)


@pytest.mark.parametrize(
    ("visible", "uuid"), [("", "GPU-aaaa"), ("1", "GPU-bbbb"), ("1,0", "GPU-bbbb"), ("GPU-bb", "GPU-bbbb")]
)
def test_the_first_visible_gpu_is_taken(
    two_gpus: Driver, monkeypatch: pytest.MonkeyPatch, visible: str, uuid: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device = choose_device("auto")
    assert (device.kind, device.visible_gpu, device.torch_name) == ("cuda", uuid, "cuda:0")
    assert device.facts["driver_version"] == "550.1"
    assert device.facts["memory_mib"] == {"GPU-aaaa": 15360, "GPU-bbbb": 143771}[uuid]


def test_gpus_can_be_hidden_or_not_asked_for(two_gpus: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu").kind == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert choose_device("auto").kind == "cpu"
    with pytest.raises(UsageError, match=r"lists no GPU.*USE_GPU=true and GPU_DEVICE in its \.env"):
        choose_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=7: no such GPU"):
        choose_device("auto")


@pytest.mark.parametrize(("load", "pids", "says"), [(0, [4711], "4711"), (85, [], "85 %")])
def test_a_busy_gpu_is_not_timed(two_gpus: Driver, load: int, pids: list[int], says: str) -> None:
    device = choose_device("cuda")
    require_idle(device)
    two_gpus.set(1, percent=100, pids=[4712])  # another GPU
    require_idle(device)
    two_gpus.set(0, percent=load, pids=pids)
    with pytest.raises(UsageError, match=r"is busy .*; a time measured now would be worthless") as caught:
        require_idle(device)
    assert says in str(caught.value)


def test_whoever_uses_the_gpu_is_named_where_that_is_known(
    two_gpus: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_BUSY_CHECKS", 1)
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    two_gpus.set(0, percent=50, pids=[os.getpid(), 2**22])  # no process has so high a number
    with pytest.raises(UsageError, match=rf"processes {os.getpid()} \({re.escape(name)}\), {2**22}\)"):
        require_idle(choose_device("cuda"))


def test_the_file_for_unified_memory_is_made_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, asked = tmp_path / "dev", tmp_path / "asked"
    nodes.mkdir()
    tool = tmp_path / "nvidia-modprobe"
    told, made = shlex.quote(str(asked)), shlex.quote(str(nodes / "nvidia-uvm"))
    tool.write_text(f"#!/bin/sh\necho $* >> {told}\ntouch {made}\n")
    tool.chmod(0o755)
    gpu = Device("cuda", None, "GPU-aaaa", {})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    create_gpu_nodes(CPU, nodes)
    assert not asked.exists()
    for _ in range(2):
        create_gpu_nodes(gpu, nodes)
    assert asked.read_text() == "-u -c 0\n"
    (nodes / "nvidia-uvm").unlink()
    tool.write_text("#!/bin/absent\n")
    create_gpu_nodes(gpu, nodes)
    tool.unlink()
    create_gpu_nodes(gpu, nodes)
    assert not (nodes / "nvidia-uvm").exists()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, where the locks are."""
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_one_timing_at_a_time_on_a_device(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = Device("cuda", None, "GPU-aaaa", {})
    entered = []

    def enter(device: Device) -> threading.Thread:
        def hold() -> None:
            with exclusive_use(device):
                entered.append(device.kind)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        return thread

    with exclusive_use(CPU):
        enter(gpu).join(60)
        waiting = enter(CPU)
        waiting.join(0.3)
        assert entered == ["cuda"]
    waiting.join(60)
    assert entered == ["cuda", "cpu"]
    assert capsys.readouterr().err == "waiting: another run is timed on cpu; this one goes on by itself\n"
    assert [path.name for path in temporary.iterdir()] == [FOLDER]
    assert stat.S_IMODE((temporary / FOLDER).stat().st_mode) == 0o700


def lock_and_tell(answer: multiprocessing.SimpleQueue[str]) -> None:
    try:
        with exclusive_use(CPU):
            answer.put("locked")
    except UsageError as error:
        answer.put(str(error))


def refusal() -> str:
    """What a run that wants the CPU is told; fails after a minute: nothing may make a run wait for long."""
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=lock_and_tell, args=(answer,))
    process.start()
    process.join(60)
    hangs = process.is_alive()
    process.kill()
    assert not hangs, "waits for something that is no lock"
    return answer.get()


def bind(path: Path) -> None:
    """Make a socket at `path`, by its name in its folder: the kernel refuses long paths."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


HINDRANCES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to("elsewhere"),
    "a socket": bind,
}


@pytest.mark.parametrize("kind", [*HINDRANCES, "a file"])
def test_anything_but_a_folder_of_this_user_for_the_locks_is_refused(temporary: Path, kind: str) -> None:
    (temporary / "elsewhere").mkdir()
    folder = temporary / FOLDER
    HINDRANCES.get(kind, Path.touch)(folder)
    told = refusal()
    assert told.startswith(
        f"{folder}: is {kind}, and a folder with locks of this kit is expected there; remove"
    )
    assert not list((temporary / "elsewhere").iterdir())


@pytest.mark.parametrize("kind", [*HINDRANCES, "a folder"])
def test_anything_but_a_file_by_the_name_of_the_lock_is_refused(temporary: Path, kind: str) -> None:
    (temporary / FOLDER).mkdir(0o700)
    lock = temporary / FOLDER / "cpu.lock"
    HINDRANCES.get(kind, Path.mkdir)(lock)
    assert f"{lock}: is {kind}, and a file with locks of this kit is expected there; remove it" in refusal()
    assert not (temporary / FOLDER / "elsewhere").exists()


@pytest.mark.parametrize("kind", HINDRANCES)
def test_nothing_by_the_name_that_locks_once_had_is_in_the_way(temporary: Path, kind: str) -> None:
    HINDRANCES[kind](temporary / "flair2-cpu.lock")
    assert refusal() == "locked"


def test_a_folder_for_locks_that_others_may_write_is_refused(temporary: Path) -> None:
    (temporary / FOLDER).mkdir()
    (temporary / FOLDER).chmod(0o777)
    assert "others may write there (mode 777), expected 700; remove it, or set TMPDIR" in refusal()


def test_a_folder_for_locks_of_another_user_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    (temporary / "flair2-4321").mkdir(0o700)
    monkeypatch.setattr(devices.os, "geteuid", lambda: 4321)
    told = f"belongs to user {owner}, and locks of user 4321 are expected there; remove it, or set TMPDIR"
    assert told in refusal()


def test_a_place_where_no_lock_can_be_made_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(temporary / "gone"))
    assert "cannot be opened for a lock (No such file or directory)" in refusal()


@pytest.fixture
def driver(tmp_path: Path) -> tuple[Path, Path]:
    """Device files and the driver's table of three GPUs; the second one has no device file."""
    nodes, table = tmp_path / "dev", tmp_path / "gpus"
    nodes.mkdir()
    for name in ("nvidia0", "nvidia2", "nvidia7", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null"):
        (nodes / name).touch()
    for bus, uuid, minor in [("3b", "GPU-aaaa", 2), ("86", "GPU-bbbb", 1), ("af", "GPU-cccc", 0)]:
        folder = table / f"0000:{bus}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            "Model: \t\t NVIDIA H200\nIRQ:   \t\t 30\n"
            f"GPU UUID: \t {uuid}\nBus Location: \t 0000:{bus}:00.0\nDevice Minor: \t {minor}\n"
        )
    return nodes, table


def test_only_the_device_files_of_the_gpu_that_is_timed_are_given(driver: tuple[Path, Path]) -> None:
    nodes, _ = driver
    shared = [str(nodes / name) for name in ("nvidiactl", "nvidia-uvm", "nvidia-caps")]
    for uuid, own in [("GPU-aaaa", "nvidia2"), ("GPU-cccc", "nvidia0")]:
        assert gpu_nodes(Device("cuda", "NVIDIA H200", uuid, {}), *driver) == [str(nodes / own), *shared]
    assert gpu_nodes(CPU, *driver) == []


def test_without_a_word_of_the_driver_on_a_gpu_its_device_files_are_unknown(
    driver: tuple[Path, Path],
) -> None:
    nodes, table = driver
    for uuid in ("GPU-dddd", "0", None):  # another one, or no nvidia-smi that tells the UUID
        assert gpu_nodes(Device("cuda", None, uuid, {}), nodes, table) is None
    gone = Device("cuda", None, "GPU-bbbb", {})  # its device file has another name here, as in a container
    assert gpu_nodes(gone, nodes, table) is None
    assert gpu_nodes(Device("cuda", None, "GPU-aaaa", {}), nodes, table.with_name("absent")) is None
    for information in table.rglob("information"):
        information.write_bytes(b"\xff\n:\nGPU UUID: GPU-aaaa\n")
    assert gpu_nodes(Device("cuda", None, "GPU-aaaa", {}), nodes, table) is None
