"""Bundles that earlier versions have built (tests/earlier_versions/) keep the rules of the check of today."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_files import KIT

from programs import run_here

BUNDLES = sorted((KIT / "tests/earlier_versions").glob("*/bundle.zip"))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundle_is_accepted(bundle: Path) -> None:
    done = run_here("build", "--check", bundle, folder="bundle")
    assert done.returncode == 0, done.stderr
    assert "keeps all rules" in done.stdout
