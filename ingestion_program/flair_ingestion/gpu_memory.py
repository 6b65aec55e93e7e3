"""Overwrites the free memory of the GPU before each attempt, so that nothing of earlier processes is left.

A driver may hand out memory as an earlier process has left it. So notes for a later attempt could lie there,
or the weights of an earlier participant.
"""

from __future__ import annotations

import sys

from flair_ingestion import PROGRAM
from flair_ingestion.measurement import Conditions
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import SubmissionError

OVERWRITING_SUBMISSION = PROGRAM / "overwriting_submission"


def overwrite_gpu_memory(conditions: Conditions) -> None:
    """Let a process in a sandbox of its own fill the GPU's free memory with zeros; on the CPU do nothing.

    Warns on stderr if that fails. Raises UsageError and TimeLimitError as `Session` does.
    """
    if conditions.device.kind != "cuda":
        return
    limits = conditions.limits
    submission = open_submission(OVERWRITING_SUBMISSION, limits.submission_mib)
    session = Session(submission, conditions.device, limits, conditions.wall)
    try:
        with session:
            session.start(conditions.sandbox_level)
            session.load()
    except SubmissionError as error:
        sentence = str(error).partition("\n")[0]
        told = f"the memory of the GPU was not overwritten before the attempt: {sentence}"
        print(f"warning: {told}", file=sys.stderr)
