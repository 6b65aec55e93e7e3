"""Charts as SVG inside a page: intervals, points, a histogram.

They are written by hand and not drawn by a plotting library, for two reasons. They take their colours from
the page, so they follow its light and dark theme. And scoring needs no further library on the platform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from flair_scoring.report.html import Markup

_WIDTH, _RIGHT, _ROW = 880, 20, 22
_NAMES, _NUMBERS = 230, 70  # width at the left for names, for the numbers of an axis
_NAME = 30  # characters
_LEAST_SPAN = 1e-9  # of an axis, since its numbers are rounded to 12 digits after the point


def interval_plot(rows: Sequence[tuple[str, float, float, float]], title: str) -> Markup:
    """A line from low to high and a dot at the value for each (name, low, value, high), the first on top."""
    ticks = _ticks(min(row[1] for row in rows), max(row[3] for row in rows))
    bottom = len(rows) * _ROW + 10
    parts = _x_axis(ticks, _NAMES, bottom, title)
    for index, (name, low, value, high) in enumerate(rows):
        y = index * _ROW + _ROW / 2 + 5
        parts += [
            _text(_NAMES - 12, y + 4, _shorten(name), "end"),
            _line(_x(low, ticks, _NAMES), y, _x(high, ticks, _NAMES), y, "mark"),
            _dot(_x(value, ticks, _NAMES), y, f"{name}: {value:.4f}{_range(low, high)}"),
        ]
    return _figure(parts, bottom + 45)


def scatter_plot(
    points: Sequence[tuple[str, float, float, bool]],
    limit: float | None,
    x_title: str,
    y_title: str,
) -> Markup:
    """Points (name, x, y, emphasised), a line through the emphasised ones, a vertical line at `limit`."""
    xs = [x for _, x, _, _ in points] + ([limit] if limit else [])
    x_ticks, y_ticks = _ticks(0.0, max(xs)), _ticks(min(p[2] for p in points), max(p[2] for p in points))
    height, top = 320, 20

    def x_of(value: float) -> float:
        return _x(value, x_ticks, _NUMBERS)

    def y_of(value: float) -> float:
        return top + (height - top) * (1 - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]))

    parts = _x_axis(x_ticks, _NUMBERS, height, x_title)
    parts.append(_text(_NUMBERS, top - 8, y_title, "start"))
    for tick in y_ticks:
        parts.append(_line(_NUMBERS, y_of(tick), _WIDTH - _RIGHT, y_of(tick), "grid"))
        parts.append(_text(_NUMBERS - 8, y_of(tick) + 4, f"{tick:g}", "end"))
    if limit:
        parts.append(_line(x_of(limit), top, x_of(limit), height, "limit"))
        parts.append(_text(x_of(limit) - 5, height - 8, f"limit {limit:g}", "end"))
    front = sorted((x, y) for _, x, y, emphasised in points if emphasised)
    path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in front)
    parts.append(f'<polyline class="front" points="{path}"/>')
    for name, x, y, emphasised in points:
        parts.append(_dot(x_of(x), y_of(y), f"{name}: {y:.4f}, {x:.3f}", "" if emphasised else "soft"))
        if emphasised:
            anchor = "start" if x_of(x) < _WIDTH / 2 else "end"
            parts.append(_text(x_of(x), y_of(y) - 9, _shorten(name), anchor))
    return _figure(parts, height + 45)


def histogram(values: Sequence[float], limit: float | None, x_title: str) -> Markup:
    """The number of values in each of 40 bins, which begin at 0, and a vertical line at `limit`."""
    ticks = _ticks(0.0, max([*values, limit or 0.0]))
    counts = [0] * 40
    for value in values:
        counts[min(int(40 * value / ticks[-1]), 39)] += 1
    height, width = 160, (_WIDTH - _RIGHT - _NUMBERS) / 40
    parts = _x_axis(ticks, _NUMBERS, height, x_title)
    for index, count in enumerate(counts):
        tall = (height - 20) * count / max(counts)
        box = f'x="{_NUMBERS + index * width + 1:.1f}" y="{height - tall:.1f}" width="{width - 2:.1f}"'
        parts.append(f'<rect {box} height="{tall:.1f}"><title>{count}</title></rect>')
    if limit:
        x = _x(limit, ticks, _NUMBERS)
        parts += [_line(x, 5, x, height, "limit"), _text(x - 5, 16, f"limit {limit:.4g}", "end")]
    return _figure(parts, height + 45)


def _range(low: float, high: float) -> str:
    return f" ({low:.4f} to {high:.4f})" if low < high else ""


def _figure(parts: Sequence[str], height: float) -> Markup:
    return Markup(f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height:.0f}">{"".join(parts)}</svg></div>')


def _x_axis(ticks: Sequence[float], left: float, bottom: float, title: str) -> list[str]:
    parts = []
    for tick in ticks:
        x = _x(tick, ticks, left)
        parts += [_line(x, 5, x, bottom, "grid"), _text(x, bottom + 17, f"{tick:g}", "middle")]
    return [*parts, _text((left + _WIDTH - _RIGHT) / 2, bottom + 37, title, "middle")]


def _x(value: float, ticks: Sequence[float], left: float) -> float:
    return left + (_WIDTH - _RIGHT - left) * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, at most nine, the first at or below `low` and the last at or above `high`."""
    span = max(high - low or abs(high) or 1.0, _LEAST_SPAN)
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(size * unit for size in (0.2, 0.5, 1.0, 2.0) if span / (size * unit) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, hint: str, style: str = "") -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(hint)}</title></circle>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
