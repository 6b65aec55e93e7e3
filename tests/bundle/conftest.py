"""A bundle built by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_files import read_zip, run_build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, flair_tree: Path) -> Path:
    """A bundle for use at home, with data."""
    output = tmp_path_factory.mktemp("dist") / "bundle.zip"
    done = run_build("--data", flair_tree, "--untrained-reference", "-o", output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def files(built: Path) -> dict[str, bytes]:
    return read_zip(built.read_bytes())


@pytest.fixture(scope="session")
def competition(files: dict[str, bytes]) -> dict[str, Any]:
    return yaml.safe_load(files["competition.yaml"])
