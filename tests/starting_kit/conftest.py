"""Settings for tests that run networks."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny networks gain nothing from threads, and lose a lot where other processes want the cores too."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for commands that tests start
