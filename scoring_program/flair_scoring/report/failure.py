"""detailed_results.html of an evaluation without a score: the verdict, the reason and what to do."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from flair_scoring.base.errors import FlairError, PredictionError, TimeLimitError
from flair_scoring.report.html import folded, heading, paragraph, preformatted, render_page
from flair_scoring.report.result import provenance_table
from flair_scoring.report.result_style import RESULT_STYLE
from flair_scoring.report.run_time import render_time

_LONGEST = 4000  # characters of a reason, which may contain an exception of the submission

_AT_HOME = (
    "Evaluate the same submission at home: starting_kit/evaluate.py runs the same two programs and shows "
    "what the submission prints. Correct what the reason names, and submit again."
)
_FASTER = (
    "Make the inference faster, and submit again. At home starting_kit/evaluate.py measures a submission in "
    "the same way; the page Timing of the competition says what counts."
)
_AGAIN = (
    "If the reason names what to change, change it and submit again. If it does not, submit the same zip "
    "once more, and write to the organizers if that fails as well."
)
_ORGANIZERS = "Please write to the organizers: the log of the scoring step tells them the reason."
_NOT_TOLD = "Scoring stopped because of a problem in the competition's data, its programs or the machine."


def render_failure(error: Exception, timing: dict[str, Any], platform: bool) -> str:
    """The page for an evaluation that ended with `error`; `timing` is timing.json, empty if there is none.

    With `platform`, participants read the page. So it does not show errors of the organizer's data and
    programs.
    """
    late = isinstance(error, TimeLimitError)
    refused = late or isinstance(error, PredictionError)
    reason = str(error) if isinstance(error, FlairError) else f"{type(error).__name__}: {error}"
    verdict, advice = _judge(error, timing, platform)
    return render_page(
        "FLAIR #2: no score",
        paragraph("Verdict", "soft"),
        paragraph(verdict, "score"),
        "<h2>Reason</h2>",
        *_tell_reason(_shorten(reason if refused or not platform else _NOT_TOLD)),
        *([f'<div class="summary">{render_time(timing)}</div>'] if late and timing else []),
        "<h2>What to do</h2>",
        paragraph(advice),
        folded(
            heading("About the run"),
            provenance_table({name: value for name, value in timing.items() if name != "reason"}),
        ),
        style=RESULT_STYLE,
    )


def _tell_reason(reason: str) -> list[str]:
    """The first line as a sentence, what follows it as a block: a list of problems, or the end of a log."""
    first, _, rest = reason.strip().partition("\n")
    return [paragraph(first, "lead"), *([preformatted(dedent(rest).strip("\n"))] if rest.strip() else [])]


def _judge(error: Exception, timing: dict[str, Any], platform: bool) -> tuple[str, str]:
    """The verdict in a few words, and what to do."""
    if isinstance(error, TimeLimitError):
        return "over the time limit", _FASTER
    if isinstance(error, PredictionError) and timing.get("verdict") == "failed":
        return "failed", _AT_HOME
    if not platform:
        return "not scored", "Correct what the reason names, and score again."
    if isinstance(error, PredictionError):
        return "refused", _AGAIN
    return "not scored", _ORGANIZERS


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
