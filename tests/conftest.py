"""Fixtures that several areas share."""

from __future__ import annotations

from pathlib import Path

import pytest

from flair_files import write_flair_tree


@pytest.fixture(scope="session")
def flair_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA with 3 domains per split, 2 patches each (flair_files.py); to be copied before it is changed."""
    return write_flair_tree(tmp_path_factory.mktemp("flair"))
