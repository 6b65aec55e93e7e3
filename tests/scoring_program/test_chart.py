"""Charts: what is drawn where, read back from the SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_scoring.report.charts import histogram, interval_plot, scatter_plot

VALUES = st.floats(0, 1).map(lambda value: round(value, 4))


def parse(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure)


def scale(root: ElementTree.Element) -> tuple[float, float, float, float]:
    """First and last tick of the x axis: value and position of each."""
    ticks = [
        (float(text.attrib["x"]), float(text.text or ""))
        for text in root.iter("text")
        if text.attrib["text-anchor"] == "middle" and (text.text or "").replace(".", "").isdigit()
    ]
    (first_x, first), (last_x, last) = min(ticks), max(ticks)
    return first, first_x, last, last_x


@given(st.lists(st.tuples(VALUES, VALUES, VALUES).map(sorted), min_size=1, max_size=6))
def test_intervals_lie_where_the_axis_says(intervals: list[list[float]]) -> None:
    rows = [(f"n{index}", low, value, high) for index, (low, value, high) in enumerate(intervals)]
    root = parse(interval_plot(rows, "mIoU"))
    first, first_x, last, last_x = scale(root)
    assert first <= min(row[1] for row in rows)
    assert last >= max(row[3] for row in rows)

    def position(value: float) -> float:
        return first_x + (last_x - first_x) * (value - first) / (last - first)

    marks = [line for line in root.iter("line") if line.attrib["class"] == "mark"]
    dots = list(root.iter("circle"))
    for (_, low, value, high), mark, dot in zip(rows, marks, dots, strict=True):
        assert float(mark.attrib["x1"]) == pytest.approx(position(low), abs=0.2)
        assert float(mark.attrib["x2"]) == pytest.approx(position(high), abs=0.2)
        assert float(dot.attrib["cx"]) == pytest.approx(position(value), abs=0.2)
    assert [float(dot.attrib["cy"]) for dot in dots] == sorted(float(dot.attrib["cy"]) for dot in dots)


@given(st.lists(st.tuples(st.floats(0.01, 9), VALUES, st.booleans()), min_size=1, max_size=9))
def test_better_is_higher_and_slower_is_further_right(points: list[tuple[float, float, bool]]) -> None:
    named = [(f"n{index}", *point) for index, point in enumerate(points)]
    root = parse(scatter_plot(named, 2.5, "time ratio", "mIoU"))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    for (_, x, y, _), (cx, cy) in zip(named, dots, strict=True):
        for (_, other_x, other_y, _), (other_cx, other_cy) in zip(named, dots, strict=True):
            assert x >= other_x or cx <= other_cx + 0.11
            assert y >= other_y or cy >= other_cy - 0.11
    (limit,) = [line for line in root.iter("line") if line.attrib["class"] == "limit"]
    assert all(
        (x > 2.5) == (cx > float(limit.attrib["x1"]))
        for (_, x, _, _), (cx, _) in zip(named, dots, strict=True)
        if abs(x - 2.5) > 0.01
    )
    assert sum(dot.attrib["class"] == "" for dot in root.iter("circle")) == sum(p[2] for p in points)


def test_names_are_escaped_and_cut() -> None:
    figure = interval_plot([("<b>" + "x" * 50, 0.1, 0.2, 0.3)], "mIoU")
    texts = [text.text or "" for text in parse(figure).iter("text")]
    assert "<b>" + "x" * 26 + "…" in texts


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-13, 1e-9, 1.0, 1e12])
def test_values_of_any_size_have_an_axis(value: float) -> None:
    parse(histogram([0.0, value], value, "milliseconds"))
    parse(scatter_plot([("a", value, value, True)], value, "time ratio", "mIoU"))
    parse(interval_plot([("a", 0.0, value, value)], "mIoU"))
