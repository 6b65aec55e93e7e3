"""The operations guide and the pages: files, switches and targets that they name exist."""

from __future__ import annotations

import re

import yaml
from bundle_files import KIT

from flair_bundle.schema import COMPETITION, PHASE

GUIDE = (KIT / "bundle/README.md").read_text()
PAGES = "\n".join(path.read_text() for path in (KIT / "bundle/pages").glob("*.md"))


def test_the_files_of_the_table_exist() -> None:
    table = GUIDE.split("## 1.")[0]
    names = re.findall(r"`([\w./]+\.\w+|[\w./]+/|Dockerfile)`", table)
    assert len(names) > 8
    assert not [name for name in names if not (KIT / "bundle" / name).exists()]


def test_switches_that_hide_are_those_of_the_schema() -> None:
    switches = set(re.findall(r"`(hide_\w+|registration_\w+|auto_\w+|make_\w+_available)", GUIDE))
    assert len(switches) > 4
    assert switches <= set(COMPETITION) | set(PHASE)


def test_limits_that_the_guide_shortens_exist() -> None:
    limits = yaml.safe_load((KIT / "ingestion_program/limits.yaml").read_text())
    assert set(re.findall(r"`(\w+_seconds)`", GUIDE)) <= set(limits)
