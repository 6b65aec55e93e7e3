"""The page of a plan: candidates in the plane of time and mIoU, the choice, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flair_baseline.planning.selection import State, Step
from flair_scoring.report.charts import Point, time_plot
from flair_scoring.report.html import paragraph, render_page, table

# The names of the members of an ensemble fill lines: smaller letters, and numbers that stay in view
_STYLE = """
.score { font-size: 1.6rem; line-height: 1.3; }
tbody th { white-space: normal; min-width: 11rem; max-width: 24rem; }
"""


@dataclass(frozen=True)
class Check:
    """A submission as evaluated on the whole split: mIoU at full resolution and its time ratio."""

    name: str
    state: State
    predicted_ratio: float
    measured_ratio: float
    miou: float


@dataclass(frozen=True)
class Plan:
    """All that a plan has found; ratios are times as multiples of the reference's.

    `singles` are the single members within the budget, best first, and `steps` the way to the `choice`. Their
    mIoU is that of every fourth pixel of the sampled patches. `checks` has the chosen ensemble and, if that
    is not a single member itself, the best single member. `failures` says of a candidate without a score
    why it has none.
    """

    limit: float
    margin: float
    patches: int
    split: str
    singles: Sequence[Step]
    steps: Sequence[Step]
    checks: Sequence[Check]
    choice: Check
    failures: Sequence[str] = ()

    @property
    def budget(self) -> float:
        """The highest predicted time ratio that a submission may have."""
        return self.limit * (1 - self.margin)


def describe_state(state: State) -> str:
    """Members with views and weights in words; the weights add up to 1, weights by class are only named."""
    total = sum(sum(weights) / len(weights) for _, weights in state.values())
    parts = []
    for name, (views, weights) in sorted(state.items()):
        share = sum(weights) / len(weights) / total
        by_class = ", by class" if len(weights) > 1 else ""
        shown = f" x {share:.2f}{by_class}" if len(state) > 1 or by_class else ""
        parts.append(f"{name}{'' if views == 'none' else f' ({views})'}{shown}")
    return " + ".join(parts)


def draw_points(steps: Sequence[Step]) -> list[Point]:
    """A point for each state; those on the front have a better mIoU than all that are as fast or faster."""
    states = dict.fromkeys((describe_state(step.state), step.cost, step.miou) for step in steps)
    order = sorted(states, key=lambda state: -state[2])
    points, best = [], 0.0
    for name, cost, miou in sorted(states, key=lambda state: (state[1], -state[2])):
        points.append(Point(name, order.index((name, cost, miou)) + 1, cost, miou, on_front=miou > best))
        best = max(best, miou)
    return points


def render_plan_page(plan: Plan) -> str:
    """The self-contained page."""
    return render_page(
        "FLAIR #2: plan of a submission",
        paragraph(describe_state(plan.choice.state), "score"),
        paragraph(
            f"Measured on the whole split {plan.split}: mIoU {plan.choice.miou:.4f}, time ratio "
            f"{plan.choice.measured_ratio:.3f}, predicted {plan.choice.predicted_ratio:.3f}; the limit is "
            f"{plan.limit:g}."
        ),
        "<h2>mIoU and time</h2>",
        time_plot(draw_points([*plan.singles, *plan.steps]), plan.limit, "predicted time ratio", "mIoU"),
        paragraph(
            f"Single members and the steps of the search, by their mIoU on {plan.patches} patches of "
            f"{plan.split} at every fourth pixel. The line joins those that no other one beats in mIoU in "
            f"less time. Candidates above {plan.budget:.3f}, the limit less a margin of {plan.margin:.0%}, "
            "were left out, and so were ensembles larger than a submission may be (submission_mib).",
            "soft",
        ),
        "<h2>Steps</h2>",
        table(
            ["ensemble", "mIoU", "predicted time ratio", "gain on held-out domains"],
            [
                [
                    describe_state(step.state),
                    f"{step.miou:.4f}",
                    f"{step.cost:.3f}",
                    "" if step.held_out_gain is None else f"{step.held_out_gain:+.4f}",
                ]
                for step in plan.steps
            ],
        ),
        paragraph(
            plan.steps[-1].ended
            or "A step was taken because it gains on domains that had no part in choosing it: it is chosen "
            "without each domain in turn, and judged on that domain.",
            "soft",
        ),
        "<h2>Checked at full resolution</h2>",
        table(
            ["submission", "mIoU", "predicted time ratio", "measured", "measured / predicted"],
            [
                [
                    f"{check.name}: {describe_state(check.state)}",
                    f"{check.miou:.4f}",
                    f"{check.predicted_ratio:.3f}",
                    f"{check.measured_ratio:.3f}",
                    f"{check.measured_ratio / check.predicted_ratio:.3f}",
                ]
                for check in plan.checks
            ],
        ),
        *map(paragraph, plan.failures),
        paragraph(
            "Predicted time ratios are to the median of the reference's times, one right after each timing "
            "of a model. A measured one is to the reference as it was timed right after that submission. "
            "Where no time was left to time it then, its time before counts. The mIoU of the choice is a "
            "little too high as a forecast: members and weights were chosen on these domains.",
            "soft",
        ),
        "<h2>Single members</h2>",
        table(
            ["member", "mIoU", "predicted time ratio"],
            [[describe_state(one.state), f"{one.miou:.4f}", f"{one.cost:.3f}"] for one in plan.singles],
        ),
        "<h2>Other machines</h2>",
        paragraph(
            "A time ratio is a property of two networks and a machine. On another GPU the same submission "
            "may have another ratio: its layers may suit that GPU better or worse than the reference's. The "
            f"margin of {plan.margin:.0%} is for this and for the scatter of the clock. With the results of "
            "other machines, plan.py --timings shows how much the ratios differ between devices."
        ),
        style=_STYLE,
    )
