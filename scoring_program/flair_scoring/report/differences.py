"""The section of a result's page that compares it with another result, and the same in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flair_scoring.base.errors import list_names
from flair_scoring.ranking.comparison import Comparison, Figures
from flair_scoring.ranking.permutation import ALPHA
from flair_scoring.report.bars import beside, empty_bar, scale_head, signed_bar, table_of_bars
from flair_scoring.report.html import heading, paragraph

_STEPS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # where the scale of differences may end


def describe_difference(comparison: Comparison) -> str:
    """The difference in mIoU, its interval and its test, in sentences."""
    total = comparison.total
    domains = len(comparison.domains)
    said = f"{total.difference:+.4f} mIoU, {total.own:.4f} here and {total.other:.4f} in {comparison.name}."
    if comparison.interval:
        low, high = comparison.interval
        said += f" 95 % interval of the difference for new domains: {low:+.4f} to {high:+.4f} "
        said += f"(jackknife over {domains} domains)."
    if comparison.p_value is not None:
        tells = "is more than chance explains" if comparison.p_value < ALPHA else "may be chance"
        said += f" By the permutation test over domains the difference {tells} "
        said += f"(p = {comparison.p_value:.3g})."
    elif domains:
        said += " There are too few domains for the permutation test."
    return said


def render_differences(comparison: Comparison | None) -> Iterator[str]:
    """HTML of the comparison; nothing without one."""
    if comparison is None:
        return
    yield heading(f"Difference from {comparison.name}")
    yield paragraph(describe_difference(comparison))
    if only := comparison.only_one_has:
        yield paragraph(
            f"Only one of the two results predicts {list_names(only)}, which no reference holds. The mIoU of "
            "that result counts such a class with an IoU of 0, and that of the other one leaves it out.",
            "soft",
        )
    tables = [_table("class", "IoU", comparison.classes)]
    if comparison.domains:
        tables.append(_table("domain", "mIoU", comparison.domains))
    yield beside(*tables)
    gain, loss = '<i class="swatch gain"></i>', '<i class="swatch loss"></i>'
    yield f'<p class="soft">{gain}this result is better, {loss}the other one is better.</p>'


def _table(kind: str, figure: str, figures: Sequence[Figures]) -> list[str]:
    """Rows sorted by their difference, the largest gain first; those without one come last."""
    known = sorted(
        (row for row in figures if not math.isnan(row.difference)), key=lambda row: -row.difference
    )
    unknown = [row for row in figures if math.isnan(row.difference)]
    largest = max((abs(row.difference) for row in known), default=0.0)
    reach = next(step for step in _STEPS if largest <= step)
    ticks = ((0.0, f"-{reach:g}"), (0.5, "0"), (1.0, f"+{reach:g}"))
    rows = [
        [row.name, signed_bar(row.difference, reach), f"{row.difference:+.4f}", *_own_and_other(row)]
        for row in known
    ]
    rows += [[row.name, empty_bar(), "-", *_own_and_other(row)] for row in unknown]
    head = [kind, scale_head(ticks), "difference", figure, "other"]
    return table_of_bars(head, rows)


def _own_and_other(row: Figures) -> list[str]:
    return ["-" if math.isnan(value) else f"{value:.4f}" for value in (row.own, row.other)]
