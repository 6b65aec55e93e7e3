"""The memory of a request, as the parent writes it and as the child reads it."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from flair_ingestion import shared_memory
from flair_ingestion.sandbox.runner import map_request, read_batch
from flair_ingestion.shared_memory import (
    UNWRITTEN,
    LabelMemory,
    Request,
    plan_layout,
    request_bytes,
    synthetic_request,
    write_request,
)
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import write_all

ODD = 37  # a length that leaves gaps between aligned arrays
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PUNCH_HOLE, KEEP_SIZE = 2, 1


def as_the_child_sees_it(request: Request) -> dict[str, Any]:
    return read_batch(map_request(write_request(request).descriptor))


def test_the_child_gets_every_array_and_all_metadata_unchanged() -> None:
    request = synthetic_request([5, ODD, 1], superpatch_size=10, seed=3)
    request.metadata[1] |= {"camera": None, "time": "18h05 \u2713"}
    batch = as_the_child_sees_it(request)
    np.testing.assert_array_equal(batch["aerial"].numpy(), request.aerial)
    for name in ("sentinel", "sentinel_masks", "sentinel_dates"):
        for got, expected in zip(batch[name], getattr(request, name), strict=True):
            assert got.numpy().dtype == expected.dtype
            np.testing.assert_array_equal(got.numpy(), expected)
    assert batch["metadata"] == request.metadata


@pytest.mark.parametrize(("batch_size", "size", "longest"), [(1, 10, 1), (3, 40, ODD), (2, 110, 114)])
def test_no_request_is_larger_than_is_announced(batch_size: int, size: int, longest: int) -> None:
    sealed = write_request(synthetic_request([longest] * batch_size, size))
    length = os.fstat(sealed.descriptor).st_size
    assert 0.9 * request_bytes(batch_size, size, longest) < length <= request_bytes(batch_size, size, longest)
    sealed.close()


def test_nobody_can_change_a_request() -> None:
    """Nor can anybody resize it, punch holes into it, or map it for writing."""
    descriptor = write_request(synthetic_request([1], 10)).descriptor
    size = os.fstat(descriptor).st_size
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    for length in (0, size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.truncate(descriptor, length)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.fallocate64(descriptor, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(4096)) == -1
    os.close(descriptor)


def test_what_a_submission_writes_into_its_tensors_stays_with_it() -> None:
    sealed = write_request(synthetic_request([5], 10, seed=1))
    again = os.dup(sealed.descriptor)
    batch = read_batch(map_request(sealed.descriptor))
    batch["aerial"].fill_(7)
    batch["sentinel"][0].zero_()
    expected = synthetic_request([5], 10, seed=1)
    np.testing.assert_array_equal(read_batch(map_request(again))["aerial"].numpy(), expected.aerial)
    assert (batch["aerial"] == 7).all()


def test_a_request_has_a_memory_of_its_own() -> None:
    one, other = (write_request(synthetic_request([1], 10)) for _ in range(2))
    assert os.fstat(one.descriptor).st_ino != os.fstat(other.descriptor).st_ino
    one.close()
    other.close()


def test_nobody_can_resize_or_unseal_the_memory_of_labels() -> None:
    descriptor = LabelMemory(1).descriptor
    size = os.fstat(descriptor).st_size
    for length in (0, size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.truncate(descriptor, length)


def test_pixels_that_the_child_does_not_write_stay_marked_and_a_copy_is_private() -> None:
    memory = LabelMemory(2)
    child = np.frombuffer(mmap.mmap(memory.descriptor, 0), np.uint8).reshape(2, 512, 512)
    child[...] = 7
    memory.poison()
    child[0, 1:] = 3
    labels = memory.copy_away(1)
    child[...] = 5
    assert labels.shape == (1, 512, 512)
    assert (labels[0, 0] == UNWRITTEN).all()
    assert (labels[0, 1:] == 3).all()


def test_metadata_that_do_not_fit_are_the_datas_fault() -> None:
    request = synthetic_request([1], 10)
    huge = Request(*list(vars(request).values())[:4], [{"camera": "x" * 70_000}])
    with pytest.raises(DataError, match="the metadata of 1 patches take"):
        plan_layout(huge)


@contextmanager
def held_page(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """A pipe holds the first page of a request for `seconds` after its writing, as a kernel may at times."""
    end, begin = os.pipe()
    letting_go = threading.Timer(seconds, os.read, [end, 4096])

    def write_and_hold(descriptor: int, content: memoryview, offset: int) -> None:
        write_all(descriptor, content, offset)
        if letting_go.ident is None:
            os.splice(descriptor, begin, 4096, offset_src=0)
            letting_go.start()

    monkeypatch.setattr(shared_memory, "write_all", write_and_hold)
    yield
    letting_go.join()
    os.close(end)
    os.close(begin)


def test_a_page_that_the_kernel_holds_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with held_page(monkeypatch, 1.0):
        sealed = write_request(synthetic_request([1], 10))
    assert fcntl.fcntl(sealed.descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    sealed.close()


def test_a_page_that_stays_held_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_SEALING_SECONDS", 0.5)
    with (
        held_page(monkeypatch, 3.0),
        pytest.raises(UsageError, match="held the memory of a request"),
    ):
        write_request(synthetic_request([1], 10))
