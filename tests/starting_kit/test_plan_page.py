"""What plan.html and the terminal say of a plan: why no ensemble was tried, what the ratios refer to."""

from __future__ import annotations

import html

import numpy as np
import pytest
from test_planning import COSTS, Contest

from flair_baseline.planning.costs import Timed, ratio_now, to_costs
from flair_baseline.planning.page import Check, Plan, render_plan_page
from flair_baseline.planning.selection import State, Step, select

UNTRIED = "No ensemble was tried: the search had patches from {}, and it needs 3 or more"
TAKEN = "A step was taken because it gains on domains"


def search(domains: int, budget: float, **options: object) -> tuple[list[Step], list[Step]]:
    class Some(Contest):
        def judge(self, state: State) -> np.ndarray:
            return super().judge(state)[:domains]

    return select(COSTS, budget, Some(), **options)


def draw_page(singles: list[Step], steps: list[Step]) -> str:
    check = Check("best model", steps[-1].state, 1.0, 1.01, 0.5)
    return render_plan_page(Plan(3.0, 0.1, 20, "val", singles, steps, [check], check))


@pytest.mark.parametrize(("domains", "told"), [(1, "1 domain"), (2, "2 domains")])
def test_few_domains_are_the_reason_why_no_ensemble_was_tried(
    domains: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    singles, steps = search(domains, budget=100)
    assert [step.state for step in steps] == [singles[0].state]
    assert f"note: {UNTRIED.format(told)}" in capsys.readouterr().err
    page = draw_page(singles, steps)
    assert UNTRIED.format(told) in page
    assert TAKEN not in page


def test_the_page_says_to_which_time_of_the_reference_a_ratio_is() -> None:
    """`to_costs` takes the median of all times, `ratio_now` the time after the submission."""
    times = {("a", "none"): Timed(6, 2), ("b", "none"): Timed(6, 3), ("c", "none"): Timed(6, 12)}
    assert to_costs(times)["c", "none"] == 6 / 3
    assert ratio_now({"ratio": 3.0, "reference_drift": 1.5}) == 2.0
    assert ratio_now({"ratio": 3.0, "reference_drift": None}) == 3.0
    page = html.unescape(draw_page(*search(6, budget=100)))
    assert "Predicted time ratios are to the median of the reference's times" in page
    assert "A measured one is to the reference as it was timed right after that submission" in page
    assert "Where no time was left to time it then, its time before counts" in page


def fits_alone(state: State) -> bool:
    """Whether a submission may be as large as this state; here two members are too many."""
    return len(state) == 1


@pytest.mark.parametrize(
    ("domains", "budget", "options"),
    [(6, 100, {}), (2, 0.3, {}), (2, 100, {"allow": fits_alone})],
    ids=["enough domains", "too little time for two members", "two members are too large"],
)
def test_domains_are_no_reason_where_an_ensemble_was_tried_or_none_fits(
    domains: int, budget: float, options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    page = draw_page(*search(domains, budget, **options))
    assert "No ensemble was tried" not in page + capsys.readouterr().err
    assert TAKEN in page
