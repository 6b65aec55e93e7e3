"""Sample patches, made and real."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_patches import Patches, make_patches

REAL_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture
def patches(tmp_path: Path) -> Patches:
    return make_patches(tmp_path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("the real patches (shared/data) are not here")
    return REAL_DATA
