"""Where the names of points can stand in a chart, so that no text lies on another one or on a point."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_FONT, _LINE = 13, 16  # size of the letters, height of a line
_SPACE = 3  # at the left and at the right of a text; less than the gap to its point
_CLOSER = 4  # by which a label may come closer to the point of another, if the two points are neighbours
_STEP = 4  # length of a box on a line


@dataclass(frozen=True)
class Box:
    """A rectangle in a chart, in units of the SVG; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two have an area in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other one lies within this one."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


@dataclass(frozen=True)
class Label:
    """A text with the position and the `text-anchor` of its SVG element."""

    text: str
    x: float
    y: float
    anchor: str


def cover_line(x1: float, y1: float, x2: float, y2: float) -> list[Box]:
    """Small boxes that together cover the line between two points."""
    steps = max(1, math.ceil(max(abs(x2 - x1), abs(y2 - y1)) / _STEP))
    width, height = (x2 - x1) / steps, (y2 - y1) / steps
    starts = [(x1 + index * width, y1 + index * height) for index in range(steps)]
    return [
        Box(min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height)) for x, y in starts
    ]


def place_labels(
    points: list[tuple[float, float]],
    texts: Sequence[Sequence[str]],
    taken: Sequence[Box],
    frame: Box,
    gap: float,
) -> list[Label | None]:
    """A label beside each point, the first of its texts that has room; None if none has.

    The points are served in their order. No label lies on a box of `taken` or on an earlier label, and all
    lie within `frame`. `gap`, at least 5, is the distance from a point to its label; the labels of points far
    from it keep that distance too.
    """
    boxes = list(taken)
    labels: list[Label | None] = []
    for index, ((x, y), choices) in enumerate(zip(points, texts, strict=True)):
        labels.append(None)
        others = boxes + [
            _surround(point, gap if math.dist(point, (x, y)) > 2 * gap else gap - _CLOSER)
            for point in points[:index] + points[index + 1 :]
        ]
        for box, label in (place for text in choices for place in _places(text, x, y, gap)):
            if frame.holds(box) and not any(map(box.overlaps, others)):
                boxes.append(box)
                labels[-1] = label
                break
    return labels


def _surround(point: tuple[float, float], margin: float) -> Box:
    x, y = point
    return Box(x - margin, y - margin, x + margin, y + margin)


def _places(text: str, x: float, y: float, gap: float) -> list[tuple[Box, Label]]:
    """The eight places of a text around the point (x, y), the best one first."""
    width, above, aside = estimate_width(text), gap + 5, gap - 4
    found = []
    for anchor, dx, dy in (
        *(("start", gap, 0.0), ("end", -gap, 0.0)),
        *(("middle", 0.0, -above), ("middle", 0.0, above)),
        *(("start", aside, -above), ("start", aside, above)),
        *(("end", -aside, -above), ("end", -aside, above)),
    ):
        left = x + dx - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        box = Box(left - _SPACE, y + dy - _LINE / 2, left + width + _SPACE, y + dy + _LINE / 2)
        found.append((box, Label(text, x + dx, y + dy + 4.5, anchor)))
    return found


def estimate_width(text: str) -> float:
    """The width of a text in a wide font; the fonts of most systems are narrower."""
    return _FONT * sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    """The width of a letter as a share of the font's size."""
    if unicodedata.east_asian_width(letter) in "WF" or letter in "mwMW@%—…_":
        return 1.0
    return 0.42 if letter in "iljtfrI.,:;'|! " else 0.8 if letter.isupper() else 0.66
