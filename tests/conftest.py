"""Fixtures that several areas share; in CI, a test that does not run has failed."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

# Things that a machine may lack, and a GPU that it may have; anything else must be there
MAY_BE_ABSENT = ("no sample of FLAIR #2", "the real patches", "no browser", "a GPU is there", "no GPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are marked `cuda` are skipped where torch sees no GPU."""
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
    """With FLAIR_CI=1 a skip for another reason fails: a defence that is not tested is not there."""
    report = yield
    reason = str(report.longrepr)
    if report.skipped and os.environ.get("FLAIR_CI") and not any(known in reason for known in MAY_BE_ABSENT):
        report.outcome, report.longrepr = "failed", f"skipped in CI: {reason}"
    return report
