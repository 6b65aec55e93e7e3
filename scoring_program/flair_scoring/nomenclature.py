"""Land-cover classes: names, colours and the mapping of FLAIR annotation values to class indices.

Sources: datapaper Table III (values, names, the merge of 13..19 into *other*), the official notebook (names
of the values above 12, colours), FLAIR-HUB's README (CoSIA's order).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flair_scoring.base.errors import UsageError

# FLAIR annotation value -> name, colour (value 0 does not occur in valid annotations and counts as other)
FLAIR_VALUES: dict[int, tuple[str, str]] = {
    1: ("building", "#db0e9a"),
    2: ("pervious surface", "#938e7b"),
    3: ("impervious surface", "#f80c00"),
    4: ("bare soil", "#a97101"),
    5: ("water", "#1553ae"),
    6: ("coniferous", "#194a26"),
    7: ("deciduous", "#46e483"),
    8: ("brushwood", "#f3a60d"),
    9: ("vineyard", "#660082"),
    10: ("herbaceous vegetation", "#55ff00"),
    11: ("agricultural land", "#fff30d"),
    12: ("plowed land", "#e4df7c"),
    13: ("swimming pool", "#3de6eb"),
    14: ("snow", "#ffffff"),
    15: ("clear cut", "#8ab3a0"),
    16: ("mixed", "#6b714f"),
    17: ("ligneous", "#c5dc42"),
    18: ("greenhouse", "#9999ff"),
    19: ("other", "#000000"),
}
MAX_FLAIR_VALUE = 19

# CoSIA's order of the first 16 classes, as FLAIR values
_COSIA_ORDER = (1, 18, 13, 3, 2, 4, 5, 14, 10, 11, 12, 9, 7, 6, 8, 15)


@dataclass(frozen=True)
class Nomenclature:
    """K scored classes with the indices 0..K-1, and *other* with the index K.

    `index_of` is uint8 (20,): FLAIR annotation value 0..19 -> class index 0..K.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    index_of: np.ndarray

    @property
    def other(self) -> int:
        """Index of *other*, and so the number K of scored classes, without *other*: 12 for flair-12."""
        return len(self.classes)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the per-class columns of scores.json, `iou_<class>`."""
        return tuple("iou_" + name.replace(" ", "_") for name in self.classes)


def _nomenclature(name: str, values: tuple[int, ...]) -> Nomenclature:
    index_of = np.full(MAX_FLAIR_VALUE + 1, len(values), dtype=np.uint8)
    index_of[list(values)] = np.arange(len(values))
    index_of.flags.writeable = False
    names, colours = zip(*(FLAIR_VALUES[value] for value in values), strict=True)
    return Nomenclature(name, names, colours, index_of)


FLAIR_12 = _nomenclature("flair-12", tuple(range(1, 13)))
FLAIR_18 = _nomenclature("flair-18", tuple(range(1, 19)))
COSIA_16 = _nomenclature("cosia-16", _COSIA_ORDER)
NOMENCLATURES = {n.name: n for n in (FLAIR_12, FLAIR_18, COSIA_16)}


def get_nomenclature(name: str) -> Nomenclature:
    """The nomenclature of that name; raises UsageError that lists the known ones."""
    if name not in NOMENCLATURES:
        raise UsageError(f"unknown nomenclature {name!r}; choose one of {', '.join(NOMENCLATURES)}")
    return NOMENCLATURES[name]
