"""The page of a leaderboard: table, intervals, differences, time, classes, published results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flair_scoring.ranking.permutation import ALPHA
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, is_comparable, pairwise_p_values, pareto_front
from flair_scoring.report.charts import interval_plot, scatter_plot
from flair_scoring.report.html import Markup, paragraph, render_page, table
from flair_scoring.report.leaderboard_tables import HEAD, explain_table, explain_times, make_rows
from flair_scoring.report.published import read_published

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


def render_board_page(board: Board) -> str:
    """The self-contained page: table, intervals, differences, time, classes."""
    scored = [standing.result for standing in board.standings]
    rows = [[rank, _text_cell(name), *cells] for rank, name, *cells in make_rows(board)]
    return render_page(
        "FLAIR #2: leaderboard",
        paragraph("Ranked by the mIoU over the scored classes. Click on a heading to sort.", "soft"),
        table(HEAD, rows, "sortable"),
        paragraph(explain_table(board), "soft"),
        *(paragraph(sentence, "soft") for sentence in explain_times(board)),
        *_interval_section(scored),
        *_difference_section(scored),
        *_time_section([result for result in scored if is_comparable(result, board)]),
        *_class_section(scored),
        "<h2>Published results</h2>",
        paragraph(
            "On the test set of FLAIR #2, as the sources state them. They were not measured here.", "soft"
        ),
        _published_table(),
        script=_SORT,
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
        "An interval tells how far the mIoU may differ in other domains. Two results can differ although "
        "their intervals overlap, since both were scored on the same domains."
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
        "p-value of the difference in mIoU of each pair (permutation test), not corrected for the number of "
        f"pairs. Coloured: below {ALPHA:g}."
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
    note = (
        "The line joins the results that no other one beats in mIoU without being slower. A time ratio of 1 "
        "is the baseline's time."
    )
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
    note = "IoU in per cent. The best result of each class is bold."
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
