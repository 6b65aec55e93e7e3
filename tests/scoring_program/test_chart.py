"""Charts: what is drawn where, read back from the SVG."""

from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_scoring.report.charts import Point, time_plot
from flair_scoring.report.labels import Box, cover_line, estimate_width, place_labels

VALUES = st.floats(0, 1).map(lambda value: round(value, 4))


def parse(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure)


@given(st.lists(st.tuples(st.floats(0.01, 9), VALUES, st.booleans()), min_size=1, max_size=9))
def test_better_is_higher_and_slower_is_further_right(points: list[tuple[float, float, bool]]) -> None:
    named = [Point(f"n{index}", index + 1, *point) for index, point in enumerate(points)]
    root = parse(time_plot(named, 2.5, "time ratio", "mIoU"))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    for (x, y, _), (cx, cy) in zip(points, dots, strict=True):
        for (other_x, other_y, _), (other_cx, other_cy) in zip(points, dots, strict=True):
            assert x >= other_x or cx <= other_cx + 0.11
            assert y >= other_y or cy >= other_cy - 0.11
    (limit,) = [line for line in root.iter("line") if line.attrib["class"] == "limit"]
    assert all(
        (x > 2.5) == (cx > float(limit.attrib["x1"]))
        for (x, _, _), (cx, _) in zip(points, dots, strict=True)
        if abs(x - 2.5) > 0.01
    )
    assert sum(dot.attrib["class"] == "" for dot in root.iter("circle")) == sum(p[2] for p in points)


def test_equal_factors_of_time_are_equally_far_apart() -> None:
    points = [Point(f"n{index}", index, x, 0.5, False) for index, x in enumerate((0.1, 0.2, 0.4, 0.8, 1.6))]
    root = parse(time_plot(points, None, "time ratio", "mIoU"))
    places = [float(dot.attrib["cx"]) for dot in root.iter("circle")]
    steps = [after - before for before, after in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.11)
    assert steps[0] > 100


@pytest.mark.parametrize(("limit", "anchor"), [(0.1, "start"), (1.0, "middle"), (10.0, "end")])
def test_the_limits_name_stays_within_the_chart(limit: float, anchor: str) -> None:
    points = [Point("a", 1, 0.1, 0.5, True), Point("b", 2, 10.0, 0.5, True)]
    root = parse(time_plot(points, limit, "time ratio", "mIoU"))
    (name,) = [text for text in root.iter("text") if text.attrib.get("class") == "limit"]
    assert (name.text, name.attrib["text-anchor"]) == (f"limit {limit:g}", anchor)
    (line,) = [line for line in root.iter("line") if line.attrib["class"] == "limit"]
    assert line.attrib["x1"] == name.attrib["x"]


def test_points_far_apart_are_named_and_crowded_ones_have_their_rank_or_nothing() -> None:
    apart = [Point(f"entry {index}", index, 0.05 * 3**index, index / 4, index > 2) for index in range(4)]
    texts = [text.text for text in parse(time_plot(apart, 2.5, "t", "mIoU")).iter("text")]
    assert {point.name for point in apart} <= set(texts)
    crowd = [Point(f"entry {index} {60 * 'x'}", index, 1.0, 0.5, False) for index in range(30)]
    root = parse(time_plot(crowd, 2.5, "t", "mIoU"))
    texts = [text.text or "" for text in root.iter("text")]
    assert sum(text.startswith("entry") for text in texts) in range(1, 9)
    hints = [f"{point.rank}. {point.name}: mIoU 0.5000, t 1.000" for point in crowd]
    *hidden, top = [dot[0].text for dot in root.iter("circle")]
    assert hidden == hints[:-1]
    assert top == "\n".join(hints)  # the only one that a pointer can reach


@pytest.mark.parametrize(("value", "numbers"), [(0.8139, (0.808, 0.82)), (0.0, (0.0, 0.005))])
def test_results_that_are_equally_good_have_a_short_axis(value: float, numbers: tuple[float, float]) -> None:
    root = parse(time_plot([Point(name, 1, 1.0, value, True) for name in "ab"], None, "t", "mIoU"))
    texts = [text.text or "" for text in root.iter("text") if text.attrib["text-anchor"] == "end"]
    ends = [float(text) for text in texts if text.startswith("0.")]
    assert (ends[0], ends[-1]) == pytest.approx(numbers)


PLACES = st.tuples(st.floats(0, 800), st.floats(0, 400))


@given(st.lists(PLACES, min_size=1, max_size=40))
def test_labels_lie_in_the_frame_and_on_nothing(points: list[tuple[float, float]]) -> None:
    frame = Box(-20, -20, 820, 420)
    dots = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    labels = place_labels(points, [(f"name {n}", f"#{n}") for n in range(len(points))], [], frame, 9)
    boxes = []
    for index, label in enumerate(labels):
        if label:
            assert label.text in (f"name {index}", f"#{index}")
            width = estimate_width(label.text)
            left = label.x - width * {"start": 0, "middle": 0.5, "end": 1}[label.anchor]
            boxes.append(Box(left, label.y - 11, left + width, label.y + 2))
    assert all(map(frame.holds, boxes))
    assert labels[0] or len(points) > 1
    assert not any(box.overlaps(dot) for box in boxes for dot in dots)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@given(PLACES, PLACES)
def test_boxes_cover_a_line(start: tuple[float, float], end: tuple[float, float]) -> None:
    boxes = cover_line(*start, *end)
    for share in np.linspace(0, 1, 50):
        x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        assert any(
            b.left - 1e-6 <= x <= b.right + 1e-6 and b.top - 1e-6 <= y <= b.bottom + 1e-6 for b in boxes
        )


def test_names_are_escaped_and_cut() -> None:
    figure = time_plot([Point("<b>" + "x" * 50, 1, 0.1, 0.2, True)], None, "time", "mIoU")
    texts = [text.text or "" for text in parse(figure).iter("text")]
    assert "<b>" + "x" * 22 + "…" in texts


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-13, 1e-9, 1.0, 1e12])
def test_values_of_any_size_have_an_axis(value: float) -> None:
    parse(time_plot([Point("a", 1, value, value, True)], value, "time ratio", "mIoU"))
    parse(time_plot([Point("a", 1, value, 0.5, True), Point("b", 2, 1.0, 0.6, True)], None, "t", "mIoU"))
