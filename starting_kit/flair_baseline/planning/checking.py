"""The candidates of a plan, evaluated on the whole split by the ingestion and the scoring program."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from flair_baseline.evaluation import Task, evaluate_or_keep
from flair_baseline.planning.costs import ratio_now
from flair_baseline.planning.page import Check, describe_state
from flair_baseline.planning.selection import Key, State, state_cost
from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import UsageError
from flair_scoring.outputs.ingestion_output import read_timing
from flair_scoring.outputs.scores import NAME as SCORES

_UNFIT = (3, 4)  # exit codes: the submission fails, or takes too long; another one may be better


def check_candidates(
    states: Mapping[str, State], submissions: Mapping[str, Path], costs: Mapping[Key, float], task: Task
) -> tuple[list[Check], list[str]]:
    """Evaluate the states, name -> state, whose packed submissions have the same names.

    Results of an earlier plan are kept if their conditions are the same. Returns the checks of those that got
    a score, and a sentence for each that did not. Raises UsageError when none got one, and when a program
    failed for another reason than the submission.
    """
    checks: list[Check] = []
    failures: list[str] = []
    for name, state in states.items():
        title = f"checking the {name}: {describe_state(state)}"
        output = task.output / submissions[name].stem
        end = evaluate_or_keep(submissions[name], False, output, task, title)
        if end.code in _UNFIT:
            failures.append(f"The {name} was left out at its check on the whole split: {end.sentence}")
            print(f"note: {failures[-1]}", file=sys.stderr)
        elif end.code:
            raise UsageError(
                f"{submissions[name]}: was not scored, exit code {end.code}; the message above says why"
            )
        else:
            miou, ratio = read_json(output / SCORES, 1 << 16)["miou"], ratio_now(read_timing(output))
            checks.append(Check(name, state, state_cost(state, costs), ratio, float(miou)))
    if not checks:
        raise UsageError(
            f"no candidate got a score: {'; '.join(failures)}. If the time was the reason, choose a larger "
            "--margin"
        )
    return checks, failures
