"""The chart of mIoU against time as SVG inside a page.

It is written by hand and not drawn by a plotting library, for two reasons. It takes its colours from the
page, so it follows its light and dark theme. And scoring needs no further library on the platform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from flair_scoring.report.html import Markup, escape_text
from flair_scoring.report.labels import Box, cover_line, place_labels

_WIDTH, _RIGHT = 880, 20
_NUMBERS = 70  # width at the left for the numbers of the axis
_LABEL = 26  # characters of a name beside a point
_RADIUS = 5
_HIDDEN = 2  # distance of points of which a pointer can reach the upper one only
_LEAST_SHARE = 0.01  # length of the axis of mIoU, also if all results are equally good
_DECADES = 6  # of a time axis; a time that is smaller is drawn at its left end
_LEAST_SPAN = 1e-9  # of an axis, since its numbers are rounded to 12 digits after the point


@dataclass(frozen=True)
class Point:
    """A result in `time_plot`: its name, its rank as a short name, its time x and its mIoU y.

    `on_front` tells that no other result has at least its mIoU in at most its time.
    """

    name: str
    rank: int
    x: float
    y: float
    on_front: bool


def time_plot(points: Sequence[Point], limit: float | None, x_title: str, y_title: str) -> Markup:
    """Dots for the points, a line through those on the front, a vertical line at `limit`; x is logarithmic.

    A point whose name has no room beside it shows its rank; a point without room for that shows nothing.
    Each point tells its name and numbers to a pointer that rests on it, and those of points that it hides.
    """
    top, bottom, edge, right = 30, 420, 18, _WIDTH - _RIGHT
    low, high = _time_range([point.x for point in points] + ([limit] if limit else []))
    y_ticks = _ticks(*_widen(min(point.y for point in points), max(point.y for point in points)))

    def x_of(value: float) -> float:
        share = math.log(max(value, low) / low) / math.log(high / low)
        return _NUMBERS + edge + (right - _NUMBERS - 2 * edge) * share

    def y_of(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return bottom - edge - (bottom - top - 2 * edge) * share

    parts = [_text(_NUMBERS - 8, top - 12, y_title, "end", "soft")]
    for tick in _log_ticks(low, high):
        parts.append(_line(x_of(tick), top, x_of(tick), bottom, "grid"))
        parts.append(_text(x_of(tick), bottom + 18, f"{tick:g}", "middle"))
    parts.append(_text((_NUMBERS + right) / 2, bottom + 40, x_title, "middle", "soft"))
    for tick, number in zip(y_ticks, _same_digits(y_ticks), strict=True):
        parts.append(_line(_NUMBERS, y_of(tick), right, y_of(tick), "grid"))
        parts.append(_text(_NUMBERS - 8, y_of(tick) + 4, number, "end"))
    taken: list[Box] = []
    if limit:
        x = x_of(limit)
        parts.append(_line(x, top, x, bottom, "limit"))
        anchor = "start" if x < _NUMBERS + 50 else "end" if x > right - 50 else "middle"
        parts.append(_text(x, top - 12, f"limit {limit:g}", anchor, "limit"))
        taken.append(Box(x - 2, top, x + 2, bottom))
    front = sorted((point.x, point.y) for point in points if point.on_front)
    path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in front)
    for (x1, y1), (x2, y2) in pairwise((x_of(x), y_of(y)) for x, y in front):
        taken += cover_line(x1, y1, x2, y2)
    parts.append(f'<polyline class="front" points="{path}"/>')
    places = [(x_of(point.x), y_of(point.y)) for point in points]
    hints = [
        f"{point.rank}. {point.name}: {y_title} {point.y:.4f}, {x_title} {point.x:.3f}" for point in points
    ]
    for point, (x, y), hint in zip(points, places, _share_hints(hints, places), strict=True):
        parts.append(_dot(x, y, hint, "" if point.on_front else "soft"))
    # Names on the front come first, then the others, each group the best first
    order = sorted(range(len(points)), key=lambda index: (not points[index].on_front, -points[index].y))
    texts = [(_shorten(points[index].name), f"#{points[index].rank}") for index in order]
    frame = Box(_NUMBERS, top, right, bottom)
    labels = place_labels([places[index] for index in order], texts, taken, frame, _RADIUS + 4)
    for index, label in zip(order, labels, strict=True):
        if label:
            style = "" if points[index].on_front else "soft"
            parts.append(_text(label.x, label.y, label.text, label.anchor, style))
    return _figure(parts, bottom + 48)


def _figure(parts: Sequence[str], height: float) -> Markup:
    return Markup(f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height:.0f}">{"".join(parts)}</svg></div>')


def _share_hints(hints: Sequence[str], places: Sequence[tuple[float, float]]) -> list[str]:
    """The hints, with those of points that the point hides. Points are drawn in their order."""
    shared = []
    for index, place in enumerate(places):
        near = [other for other, there in enumerate(places) if math.dist(place, there) < _HIDDEN]
        shared.append("\n".join(hints[other] for other in near) if near[-1] == index else hints[index])
    return shared


def _widen(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of shares, which are not negative; at least `_LEAST_SHARE` apart."""
    missing = max(_LEAST_SHARE - (high - low), 0.0) / 2
    return max(low - missing, 0.0), high + missing


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, at most nine, the first at or below `low` and the last at or above `high`."""
    span = max(high - low, _LEAST_SPAN)
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(size * unit for size in (0.2, 0.5, 1.0, 2.0) if span / (size * unit) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _time_range(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis of times: at least a factor of 4 apart, so that it has two ticks or more."""
    high = max(*values, _LEAST_SPAN)
    low = max(min(values), high / 10**_DECADES)
    widen = max(1.0, math.sqrt(4 * low / high))
    return low / widen, high * widen


def _same_digits(ticks: Sequence[float]) -> list[str]:
    """The ticks as texts, all with as many digits after the point as one of them needs."""
    texts = [f"{tick:g}" for tick in ticks]
    if any("e" in text for text in texts):
        return texts
    digits = max(len(text.partition(".")[2]) for text in texts)
    return [f"{tick:.{digits}f}" for tick in ticks]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: several of each power of ten on a short axis, one on a long one."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    leading = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in leading]
    return [tick for tick in ticks if low <= tick <= high]


def _shorten(name: str) -> str:
    return name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, hint: str, style: str = "") -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"'
    return f'<circle class="{style}" {place}><title>{escape_text(hint)}</title></circle>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape_text(text)}</text>'
