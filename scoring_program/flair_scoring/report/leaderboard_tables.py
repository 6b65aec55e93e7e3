"""A leaderboard as text, csv and json, and the sentences that explain its table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from flair_scoring.base.errors import list_names
from flair_scoring.base.provenance import stamp
from flair_scoring.base.terminal import count_cells
from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS
from flair_scoring.ranking.references import without_checksums
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, Standing, count_domains, is_comparable, without_domains
from flair_scoring.ranking.table import TEXTS, make_records, standings_table
from flair_scoring.ranking.time_basis import describe_difference, time_basis
from flair_scoring.report.published import read_published

_VERDICTS = {"within_limit": "within the limit", "over_limit": "over the limit", "failed": "failed"}
HEAD = (
    *("rank", "name", "mIoU", "95 % interval", "group", "p leader", "p above"),
    *("time ratio", "inference s", "verdict"),
)


def render_board_text(board: Board) -> str:
    """The table for the terminal, one line per result, and how to read it."""
    rows = [list(HEAD), *make_rows(board)]
    widths = [max(map(count_cells, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell + gap if title in ("name", "verdict") else gap + cell
            for title, cell, width in zip(HEAD, row, widths, strict=True)
            for gap in [" " * (width - count_cells(cell))]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", explain_table(board), *explain_times(board)])


def render_board_csv(board: Board) -> str:
    """The csv file of `standings_table`; missing values are empty."""
    table = standings_table(board)
    for column in set(TEXTS) & set(table):
        table[column] = table[column].map(_quote_formula, na_action="ignore")
    return table.to_csv(index=False, lineterminator="\n")


def render_board_json(board: Board) -> str:
    """The json file: the records of `make_records`, how to read them, and the published results."""
    content = {
        **stamp(),
        "domains": count_domains([standing.result for standing in board.standings]),
        "method": explain_table(board),
        "timed_otherwise": explain_times(board),
        "results": make_records(board),
        "published": [vars(row) for row in read_published()],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def make_rows(board: Board) -> list[list[str]]:
    """The rows of the table, with the columns of HEAD.

    First the ranked results, then the reference with its time, the results without a score, and those that
    are left out.
    """
    rows = [_row(standing, board) for standing in board.standings]
    if (median := reference_seconds(board)) is not None:
        rows.append(["", "reference", *[""] * 5, "1.000", f"{median:.2f}", "the unit of time"])
    for result in board.results:
        if not result.scores:
            reason = result.left_out or f"{describe_verdict(result)}: {describe_reason(result)}"
            rows.append(["", result.name, *[""] * 5, *describe_times(result, board), reason])
    for result in board.results:
        if result.scores and result.left_out:
            miou = f"{result.scores['miou']:.4f}"
            rows.append(["", result.name, miou, *[""] * 4, *describe_times(result, board), result.left_out])
    return rows


def _row(standing: Standing, board: Board) -> list[str]:
    scores = standing.result.scores
    return [
        str(standing.rank),
        standing.result.name,
        f"{scores['miou']:.4f}",
        describe_interval(scores),
        _number(standing.group, 0),
        describe_p_value(standing.p_leader),
        describe_p_value(standing.p_above),
        *describe_times(standing.result, board),
        describe_verdict(standing.result),
    ]


def reference_seconds(board: Board) -> float | None:
    """The time of the reference submission, the median over the runs on the board's basis; None without."""
    own = [result.timing for result in board.results if time_basis(result.timing) == board.basis]
    times = [timing["reference_seconds"] for timing in own if timing.get("reference_seconds") is not None]
    return statistics.median(times) if times and board.basis else None


def describe_verdict(result: Result) -> str:
    """The verdict of timing.json in words; a verdict that ingestion does not give stays as it is."""
    if not result.timing:
        return "not timed"
    verdict = result.timing.get("verdict")
    return _VERDICTS.get(verdict, verdict) if verdict else "no verdict"


def describe_reason(result: Result) -> str:
    """Why a result has no score, as far as timing.json tells it."""
    reason = result.timing.get("reason") if result.timing.get("verdict") != "within_limit" else None
    return reason or "no score; score.py says why"


def describe_interval(scores: Mapping[str, float]) -> str:
    """The 95 % interval of the mIoU, empty if there is none."""
    return f"{scores['miou_low']:.4f} to {scores['miou_high']:.4f}" if "miou_low" in scores else ""


def describe_p_value(value: float | None) -> str:
    """A p-value with three digits, empty if there is none."""
    return "<0.001" if value is not None and value < 0.0005 else _number(value, 3)


def describe_times(result: Result, board: Board) -> list[str]:
    """Ratio and seconds of inference, empty where unknown; a * marks a ratio on another basis."""
    ratio = _number(result.timing.get("ratio"), 3)
    mark = "*" if is_comparable(result, board) is False else ""
    return [ratio and ratio + mark, _number(result.timing.get("inference_seconds"), 2)]


def explain_times(board: Board) -> list[str]:
    """A sentence on the marked time ratios; none if no ratio is marked."""
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
        f"* Timed on another basis than the {unmarked} without a mark (device {device}), so the time ratios "
        f"cannot be compared: {list_names(marked)}."
    ]


def explain_table(board: Board) -> str:
    """How to read the table, and whose references could not be compared exactly."""
    ranked = [standing.result for standing in board.standings]
    missing = explain_missing_tests(board)
    terms = [f"{term}: {text}" for term, text in explain_terms(board).items()]
    return " ".join([*([missing] if missing else []), *terms, *explain_references(ranked)])


def explain_references(ranked: Sequence[Result]) -> list[str]:
    """A sentence on the results without checksums of the references; none if all are compared exactly."""
    unsure = without_checksums(ranked)
    if not unsure or len(ranked) - len(without_domains(ranked)) < 2:
        return []
    return [
        f"The confusion.npz of {list_names(unsure)} holds no checksums of the references, so only the pixels "
        "of each class in each domain were compared. Score these results again to compare the references "
        "exactly."
    ]


def explain_missing_tests(board: Board) -> str:
    """Why the differences are not tested; empty if they are."""
    ranked = [standing.result for standing in board.standings]
    domains = count_domains(ranked)
    if len(ranked) < 2:
        return "No tests of differences: they need at least two results."
    if missing := without_domains(ranked):
        return (
            "No tests of differences: there is no confusion.npz with domains beside the scores.json of "
            f"{list_names(missing)}. So it is not known either on which references these were scored."
        )
    if domains < MIN_DOMAINS:
        return (
            f"No tests of differences: they need at least {MIN_DOMAINS} domains, and there are {domains}. "
            "With so few, even a result that is the best in all domains may be so by chance."
        )
    return ""


def explain_terms(board: Board) -> dict[str, str]:
    """What the columns mean that the board has, by the name of the column."""
    ranked = [standing.result for standing in board.standings]
    terms = {}
    if any("miou_low" in result.scores for result in ranked):
        domains = count_domains(ranked)
        terms["Interval"] = (
            f"95 % interval of the mIoU for new domains (jackknife over {domains or 'the'} domains). Two "
            "results can differ although their intervals overlap, since both were scored on the same domains."
        )
    if not explain_missing_tests(board):
        terms["p leader"] = (
            "p-value of the hypothesis that this result is as good as the best one, from a permutation test "
            f"of all results together. Group 1 has the results with p leader >= {ALPHA:g}; the test finds no "
            f"difference between them and the best one. In about {100 * ALPHA:g} % of all contests, chance "
            "makes the group leave out a result that is really as good as the best one; this holds for any "
            "number of results. Later groups are found in the same way among the results that are left; they "
            "describe the list and are no test."
        )
        terms["p above"] = (
            "p-value of the difference between this result and the next better one, from a permutation test "
            "of this pair, not corrected for the number of results."
        )
    return terms


def _quote_formula(text: str) -> str:
    """The text, with a quote before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
