"""Fixtures that several folders of tests share. In CI a skipped test counts as failed."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

# Reasons for which a test may be skipped in CI: a machine may lack these things, and it may have a GPU
MAY_BE_ABSENT = ("no sample of FLAIR #2", "the real patches", "no browser", "a GPU is there", "no GPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that are marked `cuda` where torch sees no GPU."""
    if marked := [item for item in items if item.get_closest_marker("cuda")]:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture(scope="session")
def flair_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA with 3 domains per split, 2 patches each (flair_files.py); to be copied before it is changed."""
    from flair_files import write_flair_tree  # not above: a machine for GPU tests has no rasterio

    return write_flair_tree(tmp_path_factory.mktemp("flair"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With FLAIR_CI=1 a test fails if it is skipped for another reason: its defence would go untested."""
    report = yield
    reason = str(report.longrepr)
    if report.skipped and os.environ.get("FLAIR_CI") and not any(known in reason for known in MAY_BE_ABSENT):
        report.outcome, report.longrepr = "failed", f"skipped in CI: {reason}"
    return report
