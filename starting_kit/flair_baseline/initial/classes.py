"""Classes of a given head, and which of its rows become ours.

The number of a head's rows and the list that its source publishes tell the classes. Two lists exist. "flair"
has the order of the annotation values: all 19; 18 without *other*; 15, which are those of IGN's FLAIR-INC
models "15cl" (values 1 to 14 and greenhouse); 13, the 12 scored ones and *other*; 12. "cosia" has the order
of FLAIR-HUB's label AERIAL_LABEL-COSIA: all 19, or the first 16 or 15 of them.

A row is taken when its class has the same name here. Classes that are merged into *other* here (swimming
pool, snow, clear cut, mixed, ligneous, greenhouse) have no row of their own: no single row computes what
several rows computed, so these rows are left over, and *other* is the row of the file's own *other*, which
FLAIR-HUB calls "undefined". Where the file has no such row, ours stays as it is drawn.
"""

from __future__ import annotations

from typing import Literal

from flair_scoring.nomenclature import COSIA_16, FLAIR_12, FLAIR_18

Order = Literal["flair", "cosia"]
OURS = FLAIR_12.classes_with_other
OTHER = "other"
LISTS: dict[Order, tuple[tuple[str, ...], ...]] = {
    "flair": (
        (*FLAIR_18.classes, OTHER),
        FLAIR_18.classes,
        (*FLAIR_18.classes[:14], "greenhouse"),
        OURS,
        FLAIR_12.classes,
    ),
    "cosia": (
        (*COSIA_16.classes, "ligneous", "mixed", OTHER),
        COSIA_16.classes,
        COSIA_16.classes[:15],
    ),
}


def find_classes(rows: int, order: Order) -> tuple[str, ...] | None:
    """The classes of a head with so many rows, or None when the order has no list of that length."""
    return next((names for names in LISTS[order] if len(names) == rows), None)


def match_classes(names: tuple[str, ...]) -> dict[int, int]:
    """Our class index -> the row of a head with these classes, for the classes that both have."""
    return {ours: names.index(name) for ours, name in enumerate(OURS) if name in names}
