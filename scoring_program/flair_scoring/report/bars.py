"""Bars with a scale inside of tables. They are drawn by HTML, so they fit tables of every width."""

from __future__ import annotations

from collections.abc import Sequence

from flair_scoring.report.html import Markup, escape_text, table

_LONG = 16  # rows of a table that stands alone
_SCALE = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def scale_head(ticks: Sequence[tuple[float, str]] = _SCALE) -> Markup:
    """The head of a column of bars: labels at their places, 0..1."""
    return Markup(f'<th class="scale">{scale(ticks)}</th>')


def scale(ticks: Sequence[tuple[float, str]]) -> Markup:
    """Labels at their places, 0..1 of the width. The outer ones end where the scale ends."""
    labels = []
    for place, label in ticks:
        side = "start" if place < 0.02 else "end" if place > 0.98 else "middle"
        labels.append(f'<span class="{side}" style="left:{place:.2%}">{escape_text(label)}</span>')
    return Markup(f'<div class="ticks">{"".join(labels)}</div>')


def share_bar(share: float, colour: str = "rgb(var(--heat))", mark: float | None = None) -> Markup:
    """A cell with a bar of `share` (0..1) of it, and a vertical line at `mark` (0..1) if given."""
    line = "" if mark is None else f'<i style="left:{mark:.1%}"></i>'
    style = f"width:{share:.1%};background:{escape_text(colour)}"
    return Markup(f'<td class="track"><div class="share"><b style="{style}"></b>{line}</div></td>')


def signed_bar(value: float, reach: float) -> Markup:
    """A cell with a bar from its middle: a gain goes right, a loss left, and `reach` to the edge."""
    width = min(abs(value) / reach, 1) / 2 if reach else 0.0
    left, kind = (0.5, "gain") if value >= 0 else (0.5 - width, "loss")
    filled = f'<b class="{kind}" style="left:{left:.2%};width:{width:.2%}"></b>'
    return Markup(f'<td class="track"><div class="signed">{filled}</div></td>')


def table_of_bars(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table with a column of bars, or two with one half of the rows each if there are many."""
    half = -(-len(rows) // 2) if len(rows) > _LONG else len(rows)
    return [table(head, part, "chart") for part in (rows[:half], rows[half:]) if part]


def beside(*groups: Sequence[str]) -> Markup:
    """Tables beside each other where the screen is wide enough.

    Each group is what `table_of_bars` returns. If one of them has two tables, these stand beside each other,
    and the other groups take the whole width.
    """
    split = any(len(group) > 1 for group in groups)
    cells = [
        f'<div class="whole">{one}</div>' if split and len(group) == 1 else f"<div>{one}</div>"
        for group in groups
        for one in group
    ]
    return Markup(f'<div class="pair">{"".join(cells)}</div>')


def empty_bar() -> Markup:
    """A cell of a column of bars for a value that does not exist."""
    return Markup('<td class="track"></td>')
