from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import pytest

from flair_ingestion.exchange import UNWRITTEN, Exchange, Request, lay_out, request_bytes, synthetic_request
from flair_ingestion.runner import read_batch
from flair_scoring.errors import DataError

ODD = 37  # a length that leaves gaps between aligned arrays


def as_the_child_sees_it(exchange: Exchange) -> dict[str, Any]:
    return read_batch(mmap.mmap(exchange.descriptors[0], 0))


def test_the_child_gets_every_array_and_all_metadata_unchanged() -> None:
    request = synthetic_request([5, ODD, 1], superpatch_size=10, seed=3)
    request.metadata[1] |= {"camera": None, "time": "18h05 \u2713"}
    exchange = Exchange(batch_size=4, superpatch_size=10, longest=ODD)
    exchange.publish(lay_out(synthetic_request([ODD] * 4, 10, seed=4)))  # a larger one before
    exchange.publish(lay_out(request))
    batch = as_the_child_sees_it(exchange)
    np.testing.assert_array_equal(batch["aerial"].numpy(), request.aerial)
    for name in ("sentinel", "sentinel_masks", "sentinel_dates"):
        for got, expected in zip(batch[name], getattr(request, name), strict=True):
            assert got.numpy().dtype == expected.dtype
            np.testing.assert_array_equal(got.numpy(), expected)
    assert batch["metadata"] == request.metadata


@pytest.mark.parametrize(("batch_size", "size", "longest"), [(1, 10, 1), (3, 40, ODD), (2, 110, 114)])
def test_the_memory_holds_the_largest_request(batch_size: int, size: int, longest: int) -> None:
    exchange = Exchange(batch_size, size, longest)
    exchange.publish(lay_out(synthetic_request([longest] * batch_size, size)))
    assert len(as_the_child_sees_it(exchange)["sentinel"]) == batch_size
    assert os.fstat(exchange.descriptors[0]).st_size == request_bytes(batch_size, size, longest)


def test_nobody_can_resize_or_unseal_the_memory() -> None:
    for descriptor in Exchange(1, 10, 1).descriptors:
        size = os.fstat(descriptor).st_size
        for length in (0, size - 1, size + 1):
            with pytest.raises(PermissionError):
                os.truncate(descriptor, length)


def test_pixels_that_the_child_does_not_write_stay_marked_and_a_snapshot_is_private() -> None:
    exchange = Exchange(2, 10, 1)
    child = np.frombuffer(mmap.mmap(exchange.descriptors[1], 0), np.uint8).reshape(2, 512, 512)
    child[...] = 7
    exchange.poison()
    child[0, 1:] = 3
    labels = exchange.snapshot(1)
    child[...] = 5
    assert labels.shape == (1, 512, 512)
    assert (labels[0, 0] == UNWRITTEN).all()
    assert (labels[0, 1:] == 3).all()


def test_metadata_that_do_not_fit_are_the_datas_fault() -> None:
    request = synthetic_request([1], 10)
    huge = Request(*list(vars(request).values())[:4], [{"camera": "x" * 70_000}])
    with pytest.raises(DataError, match="the metadata of 1 patches take"):
        lay_out(huge)
