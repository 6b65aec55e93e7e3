"""The time of a run on its page: a bar against the limit, and the latencies of its requests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from flair_scoring.report.bars import scale
from flair_scoring.report.html import Markup, paragraph, with_noun

_MOST_BINS, _MOST_STEPS = 40, 5
_LETTER = 0.025  # width of a digit as a share of the axis, on a screen of 390 pixels
_SKEWED = 8  # times the median: a slower request than that makes the axis logarithmic
_WIDEST = 1e6  # of a logarithmic axis; what is faster lies in its first bar
_NEAR = 2  # times the slowest request: a limit below that is drawn in the chart


def render_time(timing: dict[str, Any]) -> Markup:
    """The cell of the summary: the ratio or the seconds, a bar against the limit, and both in words."""
    if not timing:
        return Markup(f"<div>{paragraph('Time', 'soft')}<p class='second'>not timed</p></div>")
    ratio, seconds = timing.get("ratio"), timing.get("inference_seconds")
    figures = [(ratio, timing.get("limit_ratio")), (seconds, timing.get("limit_seconds"))]
    shares = [value / limit for value, limit in figures if value is not None and limit]
    parts = [paragraph("Time", "soft")]
    if ratio is not None:
        parts.append(f'<p class="second">{ratio:.3f} <small>times the baseline\'s</small></p>')
    elif seconds is not None:
        parts.append(f'<p class="second">{round_seconds(seconds)} <small>s of inference</small></p>')
    if shares:
        share, end = max(shares), max(1.0, *shares)
        filled = f'<b style="width:{share / end:.1%}"></b><i style="left:calc({1 / end:.1%} - 2px)"></i>'
        parts.append(f'<div class="gauge" title="{share:.1%} of the limit">{filled}</div>')
    parts.append(paragraph(_describe_time(timing), "soft"))
    return Markup(f"<div>{''.join(parts)}</div>")


def _describe_time(timing: dict[str, Any]) -> str:
    limits = []
    if timing.get("limit_ratio"):
        limits.append(f"{timing['limit_ratio']:g} times")
    if timing.get("limit_seconds"):
        limits.append(f"{round_seconds(timing['limit_seconds'])} s")
    where = "Over" if timing.get("verdict") == "over_limit" else "Within"
    sentences = [f"{where} the limit of {' and '.join(limits)}." if limits else "There was no limit."]
    if timing.get("ratio") is not None and timing.get("inference_seconds") is not None:
        reference = timing.get("reference_seconds")
        but = f", the baseline {round_seconds(reference)} s" if reference is not None else ""
        sentences.append(f"Inference took {round_seconds(timing['inference_seconds'])} s{but}.")
    seconds, floor = timing.get("inference_seconds"), timing.get("floor_seconds")
    if seconds is not None and floor is not None and seconds < floor:
        sentences.append(
            f"That is less than the {round_seconds(floor)} s in which the GPU can receive the aerial images "
            "and read the submission's weights once for each request: the submission deserves a look."
        )
    return " ".join(sentences)


def render_latencies(timing: dict[str, Any]) -> list[str]:
    """The latencies as a histogram and in words; empty if they were not recorded."""
    latencies, requests = timing.get("latencies_ms"), timing.get("requests")
    if not latencies or not requests:
        return []
    limits = [timing.get("limit_seconds")]
    if timing.get("limit_ratio") and timing.get("reference_seconds"):
        limits.append(timing["limit_ratio"] * timing["reference_seconds"])
    seconds = min((limit for limit in limits if limit), default=None)
    limit = 1000 * seconds / requests if seconds else None
    return [
        "<h2>Latency</h2>",
        paragraph(_describe_latencies(latencies, limit, requests)),
        draw_histogram(latencies, limit),
    ]


def _describe_latencies(latencies: Sequence[float], limit: float | None, requests: int) -> str:
    slowest = max(latencies)
    said = f"A request took {round_seconds(statistics.median(latencies))} ms in the median and "
    said += f"{round_seconds(slowest)} ms at most."
    if limit:
        shared = with_noun(requests, "request", "requests")
        said += f" The limit of the run, divided by its {shared}, is {round_seconds(limit)} ms"
        if slowest and not _is_near(limit, latencies):
            said += f", {limit / slowest:,.0f} times the slowest: it lies outside of this chart"
        said += "."
    return said


def _is_near(limit: float | None, latencies: Sequence[float]) -> bool:
    return limit is not None and limit <= _NEAR * max(latencies)


def draw_histogram(latencies: Sequence[float], limit: float | None) -> Markup:
    """The number of requests by their milliseconds, on an axis that the values choose.

    A logarithmic axis is used if a few requests were much slower than the others. A dashed line stands at
    `limit`, unless it is far above all values.
    """
    shown = [*latencies, *([limit] if limit and _is_near(limit, latencies) else [])]
    high = max(shown)
    logarithmic = high > _SKEWED * statistics.median(latencies) > 0
    low = max(min(shown), high / _WIDEST) if logarithmic else min(shown)
    ticks = _log_ticks(low, high) if logarithmic else _ticks(low, high)

    def place(value: float) -> float:
        known = (ticks[0], ticks[-1], max(value, ticks[0]))
        first, last, at = map(math.log, known) if logarithmic else known
        return (at - first) / (last - first)

    bins = min(max(10, 2 * math.isqrt(len(latencies))), _MOST_BINS)
    counts = [0] * bins
    for value in latencies:
        counts[min(int(bins * place(value)), bins - 1)] += 1
    bars = ""
    for count in counts:
        least = 2 if count else 0  # pixels: a single request among thousands is still seen
        bars += f'<b style="height:max({count / max(counts):.1%}, {least}px)" title="{count}"></b>'
    line = f'<i style="left:{place(limit):.2%}" title="limit"></i>' if limit and limit in shown else ""
    labels = scale(_thin_out([(place(tick), f"{tick:,g}") for tick in ticks]))
    most = f"{with_noun(max(counts), 'request', 'requests')} in the highest bar"
    axis = "milliseconds" + (", logarithmic" if logarithmic else "")
    axis += "; dashed: the limit" if line else ""
    return Markup(
        f'<div class="histogram">{paragraph(most, "soft")}<div class="bins">{bars}{line}</div>{labels}'
        f"{paragraph(axis, 'soft title')}</div>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, at most seven, the first at or below `low` and the last at or above `high`."""
    span = max(high - low, 0.02 * abs(high), 1e-6)
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(size * unit for size in (0.2, 0.5, 1.0, 2.0) if span / (size * unit) <= _MOST_STEPS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; of a range of 30 or more only powers of ten between its ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first = max(number for number in numbers if number <= low)
    last = min(number for number in numbers if number >= high)
    inner = numbers if high / low < 30 else [float(f"1e{power}") for power in powers]
    return [first, *(number for number in inner if first < number < last), last]


def _thin_out(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks without those whose labels would touch on a narrow screen; both ends stay."""
    *inner, last = ticks
    kept = [inner[0]]
    for tick in inner[1:]:
        # Labels of the ends lie within the axis with their whole width, the others with half of it
        others = ((kept[-1], 1.0 if len(kept) == 1 else 0.5), (last, 1.0))
        if all(
            abs(tick[0] - other[0]) > (len(tick[1]) / 2 + len(other[1]) * part + 1) * _LETTER
            for other, part in others
        ):
            kept.append(tick)
    return [*kept, last]


def round_seconds(value: float) -> str:
    """A number of seconds or milliseconds with about three digits: 2.53, 45.3, 212, 9,443."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
