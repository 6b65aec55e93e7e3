"""The page of an evaluation without a score: why, what to do, and nothing that participants may not see."""

from __future__ import annotations

import pytest
from outline import Outline

from flair_scoring.base.errors import DataError, PredictionError, TimeLimitError, UsageError
from flair_scoring.report.failure import render_failure

FAILED = {"schema": 1, "verdict": "failed", "inference_seconds": 81.25}
SLOW = FAILED | {"verdict": "over_limit", "ratio": 3.125}


@pytest.mark.parametrize(
    ("error", "timing", "verdict", "advice"),
    [
        (
            TimeLimitError("over the time limit: 3.1 x"),
            SLOW,
            "over the time limit",
            "Make the inference faster",
        ),
        (
            PredictionError("ingestion failed: no Model"),
            FAILED,
            "failed",
            "evaluate.py runs the same two programs",
        ),
        (PredictionError("manifest.json: not signed"), {}, "refused", "If the reason names what to change"),
        (DataError("MSK_077413.tif: damaged"), {}, "not scored", "write to the organizers"),
        (UsageError("signing.key: missing"), {}, "not scored", "write to the organizers"),
        (KeyError("MSK_077413.tif"), {}, "not scored", "write to the organizers"),
    ],
)
def test_participants_read_verdict_reason_and_advice(
    error: Exception, timing: dict[str, object], verdict: str, advice: str
) -> None:
    text = Outline(render_failure(error, timing, platform=True)).text
    told = text[text.index("Verdict") + 1 : text.index("About the run")]
    assert verdict in told
    assert any(advice in line for line in told)
    # Errors of labels and programs are shown to the organizers only
    assert (str(error) in text) == isinstance(error, TimeLimitError | PredictionError)
    assert not [line for line in text if "MSK_" in line or "signing" in line]
    assert not timing or "81.25" in text


@pytest.mark.parametrize("error", [DataError("MSK_077413.tif: damaged"), KeyError("MSK_077413.tif")])
def test_at_home_every_reason_is_shown(error: Exception) -> None:
    text = Outline(render_failure(error, {}, platform=False)).text
    assert [line for line in text if "MSK_077413.tif" in line]
    assert "Correct what the reason names, and score again." in text


def test_all_problems_of_a_list_have_their_line() -> None:
    error = PredictionError("no score, the predictions are refused:\npredictions are missing\n  - PRED_1.tif")
    page = render_failure(error, {}, platform=False)
    assert "<pre>predictions are missing\n  - PRED_1.tif</pre>" in page
    assert "no score, the predictions are refused:" in Outline(page).text


def test_a_run_over_the_limit_has_its_bar() -> None:
    error = TimeLimitError("over the time limit")
    page = render_failure(error, SLOW | {"limit_ratio": 2.5}, platform=True)
    assert any(line.startswith("Over the limit of 2.5 times.") for line in Outline(page).text)
    assert 'style="left:calc(80.0% - 2px)"' in page  # the limit, on a bar of 3.125 times
    assert "Time" not in Outline(render_failure(error, {}, platform=True)).text


def test_the_table_of_the_run_is_folded() -> None:
    page = render_failure(PredictionError("no Model"), FAILED, platform=True)
    assert "81.25" in page[page.index("<details>") : page.index("</details>")]


def test_a_reason_of_strangers_is_shown_and_not_run_and_ends() -> None:
    hostile = "<script>alert(1)</script>\x1b[2J\u202e" + "x" * 100_000
    page = render_failure(PredictionError(hostile), FAILED | {"device": hostile}, platform=True)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert len(page) < 20_000
    assert "script" not in Outline(page).tags
