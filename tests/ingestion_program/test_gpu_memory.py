"""The GPU's memory is overwritten before each attempt; stand-ins take the place of a GPU."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import measure_as

from flair_ingestion import gpu_memory, run
from flair_ingestion.dataset import index_patches
from flair_ingestion.devices.device import Device
from flair_ingestion.gpu_memory import OVERWRITING_SUBMISSION, overwrite_gpu_memory
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Conditions
from flair_ingestion.predictions import Spool
from flair_ingestion.run import Plan, run_ingestion
from flair_scoring.base.errors import SubmissionError

MODEL = runpy.run_path(str(OVERWRITING_SUBMISSION / "model.py"))
GPU = Device("cuda", "a GPU", "GPU-1", {"cores": 2})
CPU = Device("cpu", "a processor", None, {"cores": 2})


def conditions(device: Device) -> Conditions:
    limited = read_limits().with_options(ratio=0, seconds=10.0)
    return Conditions(device, limited, math.inf, "none", [5])


class Memory:
    """A stand-in for GPU memory: a number of bytes that can be allocated in pieces."""

    def __init__(self, free: int) -> None:
        self.free = free

    def allocate(self, size: int) -> range:
        if size > self.free:
            raise torch.OutOfMemoryError("no more")
        self.free -= size
        return range(size)


@pytest.mark.parametrize("free", [0, 1 << 20, 1 << 21, (5 << 30) + (3 << 21), (7 << 30) + 12345])
def test_all_memory_but_a_small_rest_is_filled(free: int) -> None:
    memory = Memory(free)
    assert MODEL["overwrite"](memory.allocate) == free - memory.free
    assert memory.free < MODEL["SMALLEST"]


def test_it_happens_before_each_attempt_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, flair_tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text("class Model: ...")
    events: list[str] = []
    measured = measure_as([9.9], [9.8])

    def measure(*arguments: Any, **options: Any) -> None:
        events.append("attempt")
        measured(*arguments, **options)

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(run, "overwrite_gpu_memory", lambda _: events.append("overwritten"))
    patches = index_patches(flair_tree, "test")
    with Spool(len(patches), 2) as spool:
        run_ingestion(Plan(tmp_path, None, 7), patches, conditions(GPU), spool)
    assert events == ["overwritten", "attempt"] * 2


class Session:
    """A stand-in for Session that notes its calls, and may fail."""

    def __init__(self, *arguments: Any) -> None:
        self.asked.append(arguments[0].source)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def start(self, level: str) -> None:
        self.asked.append("started")

    def load(self) -> None:
        if self.fails:
            raise SubmissionError("loading: RuntimeError: CUDA error\n  at model.py:22")
        self.asked.append("loaded")


def test_a_process_of_its_own_does_it_and_a_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Session, "asked", asked, raising=False)
    monkeypatch.setattr(Session, "fails", False, raising=False)
    monkeypatch.setattr(gpu_memory, "Session", Session)
    overwrite_gpu_memory(conditions(CPU))
    assert asked == []
    overwrite_gpu_memory(conditions(GPU))
    assert asked == [OVERWRITING_SUBMISSION, "started", "loaded", "closed"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Session, "fails", True)
    overwrite_gpu_memory(conditions(GPU))
    assert capsys.readouterr().err == (
        "warning: the memory of the GPU was not overwritten before the attempt: loading: RuntimeError: CUDA"
        " error\n"
    )
