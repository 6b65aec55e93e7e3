"""What others have published about the challenge, to show beside what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Figure:
    """A number as its source states it; `classes` are the shares in it of the 12 classes and *other*."""

    name: str
    value: float
    source: str
    classes: tuple[int, ...] = ()


def read_published() -> list[Published]:
    """Results on the FLAIR #2 test set, best first."""
    rows = [Published(**row) for row in _read()["flair_2"]]
    return sorted(rows, key=lambda row: -row.miou)


def read_others() -> dict[str, list[Figure]]:
    """Results in %, on other tests: mIoU of "FLAIR #1", overall accuracy of "CoSIA" by channels."""
    return {table: [Figure(**row) for row in rows] for table, rows in _read()["others"].items()}


def read_dataset() -> list[Figure]:
    """How large the data set is."""
    return [Figure(**row) for row in _read()["dataset"]]


def _read() -> dict[str, Any]:
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))
