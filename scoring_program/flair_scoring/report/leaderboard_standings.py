"""The first tables of a leaderboard's page: the ranked results, those without a score, those left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, Standing
from flair_scoring.report.html import Markup, cell, table
from flair_scoring.report.leaderboard_tables import (
    describe_interval,
    describe_p_value,
    describe_reason,
    describe_times,
    describe_verdict,
    reference_seconds,
)

_LONGEST = 500  # characters of a reason; the csv and json files have all of it
_VERDICT = 60  # characters of a verdict
_MOST_TICKS = 5
_MARGIN = 8.0  # per cent of the interval plot at its left and at its right


@dataclass(frozen=True)
class _Column:
    """A column: its heading, the style of its cells, their texts or cells, and the cell in the table's foot.

    `order` is "up" or "down", as in leaderboard_look.SCRIPT, and empty if nobody can sort by the column.
    """

    title: str
    style: str
    order: str
    cells: Sequence[str]
    foot: str = ""

    def has_content(self) -> bool:
        return any(self.cells)


@dataclass(frozen=True)
class _Scale:
    """The axis of the interval plots: its ends and its ticks, which have `digits` digits after the point."""

    low: float
    high: float
    ticks: Sequence[float]
    digits: int

    def place(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{_MARGIN + (100 - 2 * _MARGIN) * share:.2f}%"


def standings_section(board: Board) -> list[str]:
    """The table of the ranked results: the leader's group tinted, an interval plot in each row."""
    if not board.standings:
        return []
    columns = [column for column in _columns(board) if column.has_content()]
    heads = "".join(_head(column) for column in columns)
    lines = [f'<div class="wide"><table class="board sortable"><thead><tr>{heads}</tr></thead>', "<tbody>"]
    tinted = [standing.group == 1 for standing in board.standings]
    last = sum(tinted) - 1
    for index in range(len(board.standings)):
        style = " ".join(["leader"] * tinted[index] + ["last"] * (index == last))
        cells = "".join(_cell(column, column.cells[index]) for column in columns)
        lines.append(f'<tr class="{style}">{cells}</tr>' if style else f"<tr>{cells}</tr>")
    lines.append("</tbody>")
    if any(column.foot for column in columns):
        lines.append(f"<tfoot><tr>{''.join(_cell(column, column.foot) for column in columns)}</tr></tfoot>")
    return ["\n".join([*lines, "</table></div>"])]


def unscored_section(board: Board) -> list[str]:
    """The results without a score, with the verdict, the times and the reason of each."""
    results = [result for result in board.results if not result.scores]
    rows = [
        (
            result.name,
            _join(describe_verdict(result)[:_VERDICT], *_name_times(result, board)),
            result.left_out or describe_reason(result),
        )
        for result in results
    ]
    return _list_section("Without a score", "verdict", rows)


def left_out_section(board: Board) -> list[str]:
    """The results that have a score and are not ranked, with the score, the times and the reason of each."""
    results = [result for result in board.results if result.scores and result.left_out]
    rows = [
        (
            result.name,
            _join(f"mIoU {result.scores['miou']:.4f}", *_name_times(result, board)),
            result.left_out or "",
        )
        for result in results
    ]
    return _list_section("Not ranked", "result", rows)


def _list_section(title: str, kind: str, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """A table of names, facts of that kind, and reasons; on a narrow screen they stand in one column."""
    if not rows:
        return []
    heads = [cell(head, "text", "th") for head in ("name", kind, "reason")]
    cells = [
        [
            name,
            cell(facts),
            cell(reason if len(reason) <= _LONGEST else reason[:_LONGEST] + " …", "long text"),
        ]
        for name, facts, reason in rows
    ]
    return [f"<h2>{title}</h2>", table(heads, cells, "names entries")]


def _name_times(result: Result, board: Board) -> list[str]:
    ratio, seconds = describe_times(result, board)
    return [f"time ratio {ratio}" if ratio else "", f"{seconds} s" if seconds else ""]


def _join(*facts: str) -> str:
    return ", ".join(filter(None, facts))


def _columns(board: Board) -> list[_Column]:
    standings = board.standings
    results = [standing.result for standing in standings]
    times = [describe_times(result, board) for result in results]
    verdicts = [describe_verdict(result)[:_VERDICT] if result.timing else "" for result in results]
    if any(verdicts):
        verdicts = [verdict or "not timed" for verdict in verdicts]
    reference = reference_seconds(board)
    timed = reference is not None
    seconds_of_reference = "" if reference is None else f"{reference:.2f}"
    return [
        _Column("rank", "rank", "up", [f"{standing.rank}" for standing in standings]),
        _Column("name", "name", "up", [result.name for result in results], "reference" if timed else ""),
        _Column("mIoU", "miou", "down", [f"{result.scores['miou']:.4f}" for result in results]),
        _interval_column(standings),
        _Column("95 % interval", "", "down", [_short_interval(result.scores) for result in results]),
        _Column("group", "", "up", ["" if s.group is None else f"{s.group}" for s in standings]),
        _Column("p leader", "", "down", [describe_p_value(s.p_leader) for s in standings]),
        _Column("p above", "", "down", [describe_p_value(s.p_above) for s in standings]),
        _Column("time ratio", "", "up", [ratio for ratio, _ in times], "1.000" if timed else ""),
        _Column("inference s", "", "up", [seconds for _, seconds in times], seconds_of_reference),
        _Column("verdict", "text", "up", verdicts, "the unit of time" if timed else ""),
    ]


def _head(column: _Column) -> str:
    if isinstance(column.title, Markup):
        return column.title
    kind = "text" if column.style == "name" else ""
    return cell(column.title, " ".join(filter(None, (column.style, kind, column.order))), "th")


def _cell(column: _Column, content: str) -> str:
    if isinstance(content, Markup):
        return content
    return cell(content, column.style, "th" if column.style == "name" else "td")


def _short_interval(scores: Mapping[str, float]) -> str:
    return f"{scores['miou_low']:.3f}–{scores['miou_high']:.3f}" if "miou_low" in scores else ""


def _interval_column(standings: Sequence[Standing]) -> _Column:
    """In each row a dot at the mIoU and a line over its interval; the heading has the numbers of the axis."""
    scale = _make_scale([standing.result for standing in standings])
    grid, numbers = "", ""
    for index, tick in enumerate(scale.ticks):
        minor = ' class="minor"' if index % 2 else ""  # has no number on a narrow screen
        place = scale.place(tick)
        grid += f'<line x1="{place}" x2="{place}" y1="0" y2="100%"/>'
        numbers += f'<text{minor} x="{place}" y="100%" dy="-8" text-anchor="middle">'
        numbers += f"{tick:.{scale.digits}f}</text>"
    cells = []
    for standing in standings:
        scores = standing.result.scores
        hint = f"{scores['miou']:.4f}"
        mark = f'<circle cx="{scale.place(scores["miou"])}" cy="50%" r="4.5"/>'
        if "miou_low" in scores:
            low, high = scale.place(scores["miou_low"]), scale.place(scores["miou_high"])
            mark = f'<line class="mark" x1="{low}" x2="{high}" y1="50%" y2="50%"/>{mark}'
            hint += f" ({describe_interval(scores)})"
        cells.append(Markup(f'<td class="plot"><svg><title>{hint}</title>{grid}{mark}</svg></td>'))
    return _Column(Markup(f'<th class="plot"><svg>{numbers}</svg></th>'), "plot", "", cells)


def _make_scale(results: Sequence[Result]) -> _Scale:
    """An axis from the lowest to the highest end of the intervals, at least 0.01 long."""
    low = min(result.scores.get("miou_low", result.scores["miou"]) for result in results)
    high = max(result.scores.get("miou_high", result.scores["miou"]) for result in results)
    if high - low < 0.01:
        low, high = low - 0.005, high + 0.005
    digits, step = next(
        (digits, size / 10**digits)
        for digits in (3, 2, 1, 0)
        for size in (1, 2, 5)
        if (high - low) / (size / 10**digits) < _MOST_TICKS
    )
    ticks = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return _Scale(low, high, ticks, digits)
