"""Results that others have published, to be shown beside those that the kit has measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("published.yaml")  # package data, in a wheel too


@dataclass(frozen=True)
class Published:
    """A result as its source states it.

    `deviation` is the standard deviation of the mIoU over several runs. `classes` is the IoU of each class of
    flair-12, empty if it is not known.
    """

    name: str
    miou: float
    source: str
    deviation: float | None = None
    classes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A number as its source states it; `classes` are its parts for the 12 classes and *other*."""

    name: str
    value: float
    source: str
    classes: tuple[int, ...] = ()


def read_published() -> list[Published]:
    """Results on the FLAIR #2 test set, best first."""
    rows = [Published(**row) for row in _read()["flair_2"]]
    return sorted(rows, key=lambda row: -row.miou)


def read_others() -> dict[str, list[Figure]]:
    """Results in % on other test sets: mIoU on "FLAIR #1", overall accuracy of "CoSIA" by channels."""
    return {table: [Figure(**row) for row in rows] for table, rows in _read()["others"].items()}


def read_dataset() -> list[Figure]:
    """The size of the data set FLAIR #2: pixels, patches, areas and so on."""
    return [Figure(**row) for row in _read()["dataset"]]


def _read() -> dict[str, Any]:
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))
