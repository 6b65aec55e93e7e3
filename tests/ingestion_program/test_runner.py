"""What the child does between the answer of a submission and its own: with stand-ins for the GPU."""

from __future__ import annotations

import pytest
import torch

from flair_ingestion.sandbox import runner


@pytest.mark.parametrize("in_use", [True, False])
def test_work_that_is_left_to_the_gpu_is_waited_for_where_there_is_any(
    monkeypatch: pytest.MonkeyPatch, in_use: bool
) -> None:
    waits: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append("waited"))
    runner.finish_gpu_work()
    assert waits == ["waited"] * in_use
