"""Published results of the challenge, to show beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """A result as its source states it: mIoU, its standard deviation over runs, IoU by class of flair-12."""

    name: str
    miou: float
    source: str
    deviation: float | None = None
    classes: tuple[float, ...] = ()


def read_published() -> list[Published]:
    """All rows of published.yaml, best first."""
    rows = [Published(**row) for row in yaml.safe_load(_FILE.read_text(encoding="utf-8"))]
    return sorted(rows, key=lambda row: -row.miou)
