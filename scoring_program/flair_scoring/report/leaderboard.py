"""The page of a leaderboard: table, differences, time, classes, published results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from flair_scoring.base.provenance import KIT_VERSION
from flair_scoring.metrics import iou
from flair_scoring.nomenclature import NOMENCLATURES
from flair_scoring.ranking.permutation import ALPHA
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import (
    Board,
    Standing,
    count_domains,
    is_comparable,
    pairwise_p_values,
    pareto_front,
)
from flair_scoring.report.charts import Point, time_plot
from flair_scoring.report.html import (
    Markup,
    cell,
    escape_text,
    folded,
    paragraph,
    render_page,
    table,
    with_noun,
)
from flair_scoring.report.leaderboard_look import SCRIPT, STYLE
from flair_scoring.report.leaderboard_standings import left_out_section, standings_section, unscored_section
from flair_scoring.report.leaderboard_tables import (
    describe_p_value,
    explain_missing_tests,
    explain_references,
    explain_terms,
    explain_times,
)
from flair_scoring.report.published import read_published

_PAIRS = 10  # results whose differences the page shows pair by pair
_TIED = 3  # leaders with the same mIoU that the first sentence names
_ABSENT = Markup("<td></td>")


def render_board_page(board: Board, made: datetime | None = None) -> str:
    """The self-contained page: who leads, the table, failures, differences, time, classes, published results.

    `made` is the time that the page tells, the present one if it is None.
    """
    scored = [standing.result for standing in board.standings]
    return render_page(
        "FLAIR #2: leaderboard",
        _about(board, made or datetime.now(UTC)),
        _lead(board.standings),
        *standings_section(board),
        *_explanations(board),
        *unscored_section(board),
        *left_out_section(board),
        *_time_section([standing for standing in board.standings if is_comparable(standing.result, board)]),
        *_class_section(scored),
        *_difference_section(scored),
        "<h2>Published results</h2>",
        paragraph(
            "On the test set of FLAIR #2, as the sources state them. They were not measured here.", "soft"
        ),
        _published_table(),
        script=SCRIPT,
        style=STYLE,
    )


def _about(board: Board, made: datetime) -> str:
    """The line under the title: data, entries, date, version."""
    scored = [standing.result for standing in board.standings]
    failed = sum(not result.scores for result in board.results)
    left_out = len(board.results) - len(scored) - failed
    entries = with_noun(len(board.results), "entry", "entries")
    if failed or left_out:
        parts = [f"{len(scored)} ranked", f"{failed} without a score" if failed else ""]
        parts.append(f"{left_out} not ranked" if left_out else "")
        entries += f" ({', '.join(filter(None, parts))})"
    facts = [entries]
    if scored:
        keys = {key for key in scored[0].scores if key.startswith("iou_")}
        names = [name for name, known in NOMENCLATURES.items() if set(known.keys) == keys]
        facts += [f"{with_noun(len(keys), 'class', 'classes')} ({name})" for name in names]
    if domains := count_domains(scored):
        facts.append(with_noun(domains, "domain", "domains"))
    date = made.astimezone(UTC)
    facts += [f"{date.day} {date:%B %Y, %H:%M} UTC", f"kit {KIT_VERSION}"]
    return f'<p class="about soft">{" ".join(f"<span>{escape_text(fact)}</span>" for fact in facts)}</p>'


def _lead(standings: Sequence[Standing]) -> str:
    """Who leads, and between how many the tests find no difference."""
    if not standings:
        return '<p class="lead">No result is ranked.</p>'
    first = [standing.result for standing in standings if standing.rank == 1]
    names = [f"<b>{escape_text(result.name)}</b>" for result in first]
    miou = f"<b>{first[0].scores['miou']:.4f}</b>"
    if len(standings) == 1:
        return f'<p class="lead">{names[0]} is the only ranked result, with a mIoU of {miou}.</p>'
    if len(first) == 1:
        sentence, them = f"{names[0]} leads with a mIoU of {miou}.", "it"
    elif len(first) <= _TIED:
        sentence = f"{', '.join(names[:-1])} and {names[-1]} share the best mIoU, {miou}."
        them = "them"
    else:
        sentence, them = f"{len(first)} results share the best mIoU, {miou}.", "them"
    size = sum(standing.group == 1 for standing in standings)
    others = size - len(first)
    if size == len(standings):
        sentence += " The tests find no difference between any of the ranked results and the best."
    elif others > 0:
        rest = "one other" if others == 1 else f"{others} others"
        sentence += (
            f" The tests find no difference between {them} and {rest}: "
            f"these {size} are the leader's group, tinted in the table."
        )
    elif size:
        sentence += f" The tests leave {them} alone in the leader's group, tinted in the table."
    return f'<p class="lead">{sentence}</p>'


def _explanations(board: Board) -> list[str]:
    """The sentences under the table; those on columns are folded."""
    missing = explain_missing_tests(board)
    ranked = [standing.result for standing in board.standings]
    notes = [*([missing] if missing else []), *explain_references(ranked), *explain_times(board)]
    parts = [paragraph(note, "soft") for note in notes]
    terms = [
        f"<p><b>{escape_text(term)}</b>: {escape_text(text)}</p>"
        for term, text in explain_terms(board).items()
    ]
    if terms:
        parts.append(folded("How to read the columns", *terms))
    return parts


def _difference_section(scored: Sequence[Result]) -> list[str]:
    """The p-values of the pairs among the first results; the table above compares two results as well."""
    shown = scored[:_PAIRS]
    p_values = pairwise_p_values(shown) if len(scored) > 2 else None
    if p_values is None:
        return []
    rows = [
        [
            f"{row + 1}.\N{NO-BREAK SPACE}{result.name}",
            *(_p_cell(p, row == column) for column, p in enumerate(line)),
        ]
        for row, (result, line) in enumerate(zip(shown, p_values, strict=True))
    ]
    heads = ["", *(f"{number}." for number in range(1, len(shown) + 1))]
    note = (
        "p-value of the difference in mIoU of each pair (permutation test), not corrected for the number of "
        f"pairs. Coloured: below {ALPHA:g}. The columns are the rows, by their numbers."
    )
    summary = "p-values of each pair"
    if len(shown) < len(scored):
        summary = f"p-values of each pair among the first {len(shown)} results"
        note += f" The other {len(scored) - len(shown)} results are left out here."
    pairs = table(heads, rows, "heat pairs")
    return ["<h2>Differences</h2>", folded(summary, paragraph(note, "soft"), pairs)]


def _p_cell(p: float, same: bool) -> Markup:
    if same:
        return Markup('<td class="same"></td>')
    return Markup(f'<td style="--share:{0.6 if p < ALPHA else 0}">{escape_text(describe_p_value(p))}</td>')


def _time_section(standings: Sequence[Standing]) -> list[str]:
    timed = [standing for standing in standings if standing.result.timing.get("ratio") is not None]
    if not timed:
        return []
    results = [standing.result for standing in timed]
    front = pareto_front(results)
    points = [
        Point(r.name, standing.rank, float(r.timing["ratio"]), r.scores["miou"], r.name in front)
        for standing, r in zip(timed, results, strict=True)
    ]
    limits = [limit for result in results if (limit := result.timing.get("limit_ratio"))]
    chart = time_plot(points, min(limits, default=None), "time ratio", "mIoU")
    note = (
        "The line joins the results that no other one beats in mIoU without being slower. A time ratio of 1 "
        "is the baseline's time; the axis is logarithmic. A name without room is replaced by its rank (#7) "
        "or left out; a pointer that rests on a point shows its name."
    )
    return ["<h2>mIoU and time</h2>", chart, paragraph(note, "soft")]


def _class_section(scored: Sequence[Result]) -> list[str]:
    if not scored:
        return []
    keys = [key for key in scored[0].scores if key.startswith("iou_")]
    if not keys:
        return []
    best = {key: max(result.scores[key] for result in scored) for key in keys}
    absent = [_find_absent(result, keys) for result in scored]
    rows = []
    for result, missing in zip(scored, absent, strict=True):
        cells = [
            _ABSENT if key in missing else _iou_cell(result.scores[key], result.scores[key] == best[key] > 0)
            for key in keys
        ]
        rows.append([result.name, *cells])
    heads = [cell(key.removeprefix("iou_").replace("_", " "), "down", "th") for key in keys]
    note = "IoU in per cent. The best result of each class is bold."
    if any(absent):
        note += (
            " Where a cell is empty, the class occurs neither in the references nor in the predictions, so "
            "the mIoU leaves it out."
        )
    return ["<h2>Classes</h2>", paragraph(note, "soft"), table(["", *heads], rows, "heat sortable")]


def _find_absent(result: Result, keys: Sequence[str]) -> set[str]:
    """The keys of classes without any pixel, which have the score 0; empty if the matrices are not known."""
    orders = [known.keys for known in NOMENCLATURES.values() if set(known.keys) == set(keys)]
    if not result.domains or not orders:
        return set()
    values = iou(np.sum(list(result.domains.values()), axis=0))
    return {key for key, value in zip(orders[0], values, strict=True) if np.isnan(value)}


def _iou_cell(value: float, wins: bool) -> Markup:
    text = f"{100 * value:.1f}"
    return Markup(f'<td style="--share:{value:.3f}">{f"<b>{text}</b>" if wins else text}</td>')


def _published_table() -> str:
    rows = [
        [
            row.name,
            f"{row.miou:.4f}" + (f" ± {row.deviation:.4f}" if row.deviation else ""),
            cell(row.source, "long text"),
        ]
        for row in read_published()
    ]
    return table([cell("name", "text", "th"), "mIoU", cell("source", "text", "th")], rows, "names")
