"""A leaderboard as text, csv, json and a page."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from flair_scoring.base.errors import list_names
from flair_scoring.base.provenance import stamp
from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS
from flair_scoring.ranking.standings import (
    Result,
    Standing,
    count_domains,
    find_basis,
    pairwise_p_values,
    pareto_front,
    rank_results,
    sort_results,
    without_checksums,
    without_domains,
)
from flair_scoring.ranking.time_basis import Basis, describe_difference, time_basis
from flair_scoring.report.charts import interval_plot, scatter_plot
from flair_scoring.report.html import Markup, paragraph, render_page, table
from flair_scoring.report.published import read_published

_HEAD = (
    *("rank", "name", "mIoU", "95 % interval", "group", "p leader", "p above"),
    *("time ratio", "inference s", "verdict"),
)
_SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    let falling = false;
    const number = text => parseFloat(text.replace(/[^0-9.-]/g, ""));
    head.tabIndex = 0;
    const sort = () => {
      falling = !falling;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [a, b].map(row => row.cells[column].textContent);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(number(x)) || isNaN(number(y)) ? x.localeCompare(y) : number(x) - number(y);
        return falling ? -order : order;
      });
      body.append(...rows);
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
"""


@dataclass(frozen=True)
class Board:
    """The results as read_results orders them, the standings of those that are ranked.

    `basis`: on which most of the ranked results were timed; None if none was.
    """

    results: Sequence[Result]
    standings: Sequence[Standing]
    basis: Basis | None


def make_board(results: Sequence[Result]) -> Board:
    """The results with the tests of their differences, which take the time; DataError as rank_results."""
    ordered = sort_results(results)
    return Board(ordered, rank_results(ordered), find_basis(ordered))


def render_text(board: Board) -> str:
    """An aligned table, one line per result, and how to read it."""
    rows = [list(_HEAD), *_rows(board)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if title in ("name", "verdict") else cell.rjust(width)
            for title, cell, width in zip(_HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", _explain(board), *_explain_times(board)])


def render_csv(board: Board) -> str:
    """One line per result with all that is known of it; empty where something is not."""
    records = _records(board)
    keys = list(dict.fromkeys(key for record in records for key in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in record.items()} for record in records)
    return buffer.getvalue()


def render_json(board: Board) -> str:
    """The same records, the published results, and the stamp."""
    content = {
        **stamp(),
        "domains": count_domains([standing.result for standing in board.standings]),
        "method": _explain(board),
        "timed_otherwise": _explain_times(board),
        "results": _records(board),
        "published": [vars(row) for row in read_published()],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def render_page_of(board: Board) -> str:
    """The self-contained page: table, intervals, differences, time, classes."""
    scored = [standing.result for standing in board.standings]
    rows = [[rank, _text_cell(name), *cells] for rank, name, *cells in _rows(board)]
    return render_page(
        "FLAIR #2: leaderboard",
        paragraph("mIoU over the scored classes; click on a heading to sort.", "soft"),
        table(_HEAD, rows, "sortable"),
        paragraph(_explain(board), "soft"),
        *(paragraph(sentence, "soft") for sentence in _explain_times(board)),
        *_interval_section(scored),
        *_difference_section(scored),
        *_time_section([result for result in scored if _is_comparable(result, board)]),
        *_class_section(scored),
        "<h2>Published results</h2>",
        paragraph("As their sources state them on the test set of FLAIR #2; not measured here.", "soft"),
        _published_table(),
        script=_SORT,
    )


def _rows(board: Board) -> list[list[str]]:
    """Cells by _HEAD: the ranked results, the reference's times, those without a score, those left out."""
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
    mark = "*" if _is_comparable(result, board) is False else ""
    return [ratio and ratio + mark, _number(result.timing.get("inference_seconds"), 2)]


def _is_comparable(result: Result, board: Board) -> bool | None:
    """Whether its time was taken on the board's basis; None if it has no time, or the board no basis."""
    basis = time_basis(result.timing)
    return basis == board.basis if basis and board.basis else None


def _explain_times(board: Board) -> list[str]:
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


def _records(board: Board) -> list[dict[str, Any]]:
    front = pareto_front([standing.result for standing in board.standings])
    records: list[dict[str, Any]] = []
    for standing in board.standings:
        result = standing.result
        records.append(
            {
                "rank": standing.rank,
                "name": result.name,
                "group": standing.group,
                "p_leader": standing.p_leader,
                "p_above": standing.p_above,
                "verdict": result.timing.get("verdict"),
                "reason": result.timing.get("reason"),
                "pareto": result.name in front,
                "time_comparable": _is_comparable(result, board),
                **result.scores,
            }
        )
    for result in board.results:
        if not result.scores:
            fields = {key: result.timing.get(key) for key in ("verdict", "reason", "inference_seconds")}
            ratio = result.timing.get("ratio")
            fields |= {"time_ratio": ratio, "time_comparable": _is_comparable(result, board)}
            records.append({"name": result.name, **fields, **_left_out(result)})
        elif result.left_out:
            fields = {key: result.timing.get(key) for key in ("verdict", "reason")}
            fields |= {"time_comparable": _is_comparable(result, board)}
            records.append({"name": result.name, **fields, **_left_out(result), **result.scores})
    return records


def _left_out(result: Result) -> dict[str, str]:
    return {"left_out": result.left_out} if result.left_out else {}


def _plain(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _explain(board: Board) -> str:
    """How to read the table, and what is not sure about the references."""
    ranked = [standing.result for standing in board.standings]
    return " ".join([_explain_tests(ranked), *_explain_references(ranked)])


def _explain_references(ranked: Sequence[Result]) -> list[str]:
    """Whose references could not be compared exactly with those of the other results."""
    unsure = without_checksums(ranked)
    if not unsure or len(ranked) - len(without_domains(ranked)) < 2:
        return []
    return [
        f"The confusion.npz of {list_names(unsure)} holds no checksums of the references: only the pixels of "
        "each class in each domain were compared there. Score them again to compare the references exactly."
    ]


def _explain_tests(ranked: Sequence[Result]) -> str:
    """Interval, groups and p-values of the table, or why there are none."""
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


def _interval_section(scored: Sequence[Result]) -> list[str]:
    rows = [
        (result.name, result.scores["miou_low"], result.scores["miou"], result.scores["miou_high"])
        for result in scored
        if "miou_low" in result.scores
    ]
    if not rows:
        return []
    note = (
        "Intervals say how far the mIoU may be off in other domains. That two of them overlap does not mean "
        "that the results are equal: both were scored on the same domains."
    )
    return ["<h2>Intervals</h2>", interval_plot(rows, "mIoU, 95 % interval"), paragraph(note, "soft")]


def _difference_section(scored: Sequence[Result]) -> list[str]:
    p_values = pairwise_p_values(scored)
    if p_values is None or len(scored) < 2:
        return []
    names = [result.name for result in scored]
    rows = [
        [name, *(Markup("<td></td>") if row == column else _p_cell(p) for column, p in enumerate(line))]
        for row, (name, line) in enumerate(zip(names, p_values, strict=True))
    ]
    note = (
        f"p-value of each difference in mIoU, not corrected for their number. Coloured: below {ALPHA:g}, "
        "more than these domains' chance."
    )
    return ["<h2>Differences</h2>", paragraph(note, "soft"), table(["", *names], rows, "heat")]


def _p_cell(p: float) -> Markup:
    return Markup(f'<td style="--share:{0.6 if p < ALPHA else 0}">{p:.3f}</td>')


def _time_section(scored: Sequence[Result]) -> list[str]:
    timed = [result for result in scored if result.timing.get("ratio") is not None]
    if not timed:
        return []
    front = pareto_front(timed)
    points = [(r.name, float(r.timing["ratio"]), r.scores["miou"], r.name in front) for r in timed]
    limits = [limit for r in timed if (limit := r.timing.get("limit_ratio"))]
    chart = scatter_plot(points, min(limits, default=None), "time ratio", "mIoU")
    note = "Joined: no other result has a higher mIoU in as little time. Time ratio 1 is the baseline's time."
    return ["<h2>mIoU and time</h2>", chart, paragraph(note, "soft")]


def _class_section(scored: Sequence[Result]) -> list[str]:
    if not scored:
        return []
    keys = [key for key in scored[0].scores if key.startswith("iou_")]
    best = {key: max(result.scores[key] for result in scored) for key in keys}
    rows = []
    for result in scored:
        cells = [(result.scores[key], result.scores[key] == best[key] > 0) for key in keys]
        rows.append([result.name, *(_iou_cell(value, wins) for value, wins in cells)])
    names = [key.removeprefix("iou_").replace("_", " ") for key in keys]
    note = "IoU in per cent; the best of each class is bold."
    return ["<h2>Classes</h2>", paragraph(note, "soft"), table(["", *names], rows, "heat")]


def _iou_cell(value: float, wins: bool) -> Markup:
    cell = f"{100 * value:.1f}"
    return Markup(f'<td style="--share:{value:.3f}">{f"<b>{cell}</b>" if wins else cell}</td>')


def _published_table() -> str:
    rows = [
        [
            row.name,
            f"{row.miou:.4f}" + (f" ± {row.deviation:.4f}" if row.deviation else ""),
            _text_cell(row.source),
        ]
        for row in read_published()
    ]
    return table(["name", "mIoU", "source"], rows)


def _text_cell(text: str) -> Markup:
    return Markup(f'<td class="text">{escape(text)}</td>')


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
