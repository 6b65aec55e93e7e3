"""Land-cover classes: their names and colours, and the class index of each FLAIR annotation value.

Sources: Table III of the data paper (values, names, the merge of 13..19 into *other*), the official notebook
(colours, and the names of the values above 12), FLAIR-HUB's README (the order of CoSIA's classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flair_scoring.base.errors import UsageError

# FLAIR annotation value -> name, colour. Valid annotations hold no 0; a pixel of value 0 counts as other.
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
    """K scored classes with the indices 0..K-1, and *other*, which is not scored, with the index K.

    Args:
        name: What `--nomenclature` and the files of the kit call it, such as "flair-12".
        classes: Names of the K scored classes, in the order of their indices.
        colours: Their official colours, such as "#db0e9a".
        index_of: uint8 (20,). The class index 0..K of each FLAIR annotation value 0..19.

    Example:
        >>> import numpy as np
        >>> from flair_scoring import FLAIR_12
        >>> FLAIR_12.num_classes, FLAIR_12.classes_with_other[4], FLAIR_12.classes_with_other[-1]
        (12, 'water', 'other')
        >>> mask = np.array([[5, 19], [1, 13]], np.uint8)  # annotation values
        >>> FLAIR_12.index_of[mask]
        array([[ 4, 12],
               [ 0, 12]], dtype=uint8)
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    index_of: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number K of scored classes: 12 for flair-12. *other* is not among them."""
        return len(self.classes)

    @property
    def other(self) -> int:
        """Index of *other*, the highest one. Indices begin at 0, so it equals `num_classes`."""
        return self.num_classes

    @property
    def classes_with_other(self) -> tuple[str, ...]:
        """Names by class index 0..K, the last one "other"; a confusion matrix has a row for each of them."""
        return (*self.classes, "other")

    @property
    def colours_with_other(self) -> tuple[str, ...]:
        """Colours by class index 0..K; *other* is black."""
        return (*self.colours, FLAIR_VALUES[MAX_FLAIR_VALUE][1])

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of a confusion matrix, (K+1, K+1): its last row and column are *other*."""
        return self.num_classes + 1, self.num_classes + 1

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the scored classes in scores.json, `iou_<class>`."""
        return tuple("iou_" + name.replace(" ", "_") for name in self.classes)


def _make_nomenclature(name: str, values: tuple[int, ...]) -> Nomenclature:
    index_of = np.full(MAX_FLAIR_VALUE + 1, len(values), dtype=np.uint8)
    index_of[list(values)] = np.arange(len(values))
    index_of.flags.writeable = False
    names, colours = zip(*(FLAIR_VALUES[value] for value in values), strict=True)
    return Nomenclature(name, names, colours, index_of)


FLAIR_12 = _make_nomenclature("flair-12", tuple(range(1, 13)))
FLAIR_18 = _make_nomenclature("flair-18", tuple(range(1, 19)))
COSIA_16 = _make_nomenclature("cosia-16", _COSIA_ORDER)
NOMENCLATURES = {n.name: n for n in (FLAIR_12, FLAIR_18, COSIA_16)}


def get_nomenclature(name: str) -> Nomenclature:
    """The nomenclature of that name. Raises UsageError, which lists the known names, if there is none."""
    if name not in NOMENCLATURES:
        raise UsageError(f"unknown nomenclature {name!r}; choose one of {', '.join(NOMENCLATURES)}")
    return NOMENCLATURES[name]
