"""A leaderboard as text, csv and json, and the sentences that explain its table."""

from __future__ import annotations

import json
import statistics

from flair_scoring.base.errors import list_names
from flair_scoring.base.provenance import stamp
from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, Standing, count_domains, is_comparable, without_domains
from flair_scoring.ranking.table import TEXTS, make_records, standings_table
from flair_scoring.ranking.time_basis import describe_difference, time_basis
from flair_scoring.report.published import read_published

HEAD = (
    *("rank", "name", "mIoU", "95 % interval", "group", "p leader", "p above"),
    *("time ratio", "inference s", "verdict"),
)


def render_board_text(board: Board) -> str:
    """An aligned table, one line per result, and how to read it."""
    rows = [list(HEAD), *make_rows(board)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if title in ("name", "verdict") else cell.rjust(width)
            for title, cell, width in zip(HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", explain_tests(board), *explain_times(board)])


def render_board_csv(board: Board) -> str:
    """One line per result with all that is known of it; unknown values are empty."""
    table = standings_table(board)
    for column in set(TEXTS) & set(table):
        table[column] = table[column].map(_quote_formula, na_action="ignore")
    return table.to_csv(index=False, lineterminator="\n")


def render_board_json(board: Board) -> str:
    """The same records, the published results, and the stamp."""
    content = {
        **stamp(),
        "domains": count_domains([standing.result for standing in board.standings]),
        "method": explain_tests(board),
        "timed_otherwise": explain_times(board),
        "results": make_records(board),
        "published": [vars(row) for row in read_published()],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def make_rows(board: Board) -> list[list[str]]:
    """Cells by HEAD: the ranked results, the reference's times, those without a score, those left out."""
    rows = [_row(standing, board) for standing in board.standings]
    own = [result.timing for result in board.results if time_basis(result.timing) == board.basis]
    times = [timing["reference_seconds"] for timing in own if timing.get("reference_seconds") is not None]
    if times and board.basis:
        median = f"{statistics.median(times):.2f}"
        rows.append(["", "reference", *[""] * 5, "1.000", median, "the unit of time"])
    for result in board.results:
        if not result.scores:
            timing = result.timing
            reason = f"{timing.get('verdict')}: {timing.get('reason') or 'no score; score.py says why'}"
            rows.append(["", result.name, *[""] * 5, *_times(result, board), result.left_out or reason])
    for result in board.results:
        if result.scores and result.left_out:
            miou = f"{result.scores['miou']:.4f}"
            rows.append(["", result.name, miou, *[""] * 4, *_times(result, board), result.left_out])
    return rows


def _row(standing: Standing, board: Board) -> list[str]:
    scores, timing = standing.result.scores, standing.result.timing
    return [
        str(standing.rank),
        standing.result.name,
        f"{scores['miou']:.4f}",
        f"{scores['miou_low']:.4f} to {scores['miou_high']:.4f}" if "miou_low" in scores else "",
        _number(standing.group, 0),
        _number(standing.p_leader, 3),
        _number(standing.p_above, 3),
        *_times(standing.result, board),
        str(timing.get("verdict", "not timed")),
    ]


def _times(result: Result, board: Board) -> list[str]:
    ratio = _number(result.timing.get("ratio"), 3)
    mark = "*" if is_comparable(result, board) is False else ""
    return [ratio and ratio + mark, _number(result.timing.get("inference_seconds"), 2)]


def explain_times(board: Board) -> list[str]:
    """Which ratios are marked, and why."""
    marked = [
        f"{result.name} ({describe_difference(basis, board.basis)})"
        for result in board.results
        if board.basis and (basis := time_basis(result.timing)) and basis != board.basis
    ]
    if not marked or not board.basis:
        return []
    unmarked = sum(time_basis(result.timing) == board.basis for result in board.results)
    device = board.basis[0]
    return [
        f"* Timed on another basis than the {unmarked} without a mark (device {device}); these ratios are "
        f"not compared with theirs: {list_names(marked)}."
    ]


def explain_tests(board: Board) -> str:
    """How to read the table: interval, groups and p-values, or why there are none."""
    ranked = [standing.result for standing in board.standings]
    domains = count_domains(ranked)
    if len(ranked) < 2:
        return "No tests of differences: they compare two results at least."
    if missing := without_domains(ranked):
        return (
            f"No tests of differences: no confusion.npz with domains lies beside the scores.json of "
            f"{list_names(missing)}. Nor is it known on which references these were scored."
        )
    if domains < MIN_DOMAINS:
        return (
            f"The results cannot be told apart with {domains} domains: even one that wins in all may do "
            f"so by chance; tests of differences need {MIN_DOMAINS}."
        )
    return (
        f"Interval: for new domains (jackknife over {domains} domains). p leader: how often chance alone "
        "makes differences as large as those between this result and all better ones, if they are equally "
        f"good. Group 1 holds the results with p leader >= {ALPHA:g}, which cannot be told apart from the "
        f"best one. In about {ALPHA:.0%} of all contests chance makes it leave out a result that is really "
        "as good as the best, however many results there are. Later groups are formed in the same way from "
        "the results that are left; they are a description, not a test. p above: how often two equally good "
        "results differ by at least as much as this one and the next better one; not corrected for the "
        "number of results."
    )


def _quote_formula(text: str) -> str:
    """The text, with a quote before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
