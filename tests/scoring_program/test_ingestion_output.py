"""What scoring on the platform believes: the worker's record, signed files, the submission's own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flair_scoring.base.errors import FlairError, PredictionError, TimeLimitError
from flair_scoring.base.provenance import stamp
from flair_scoring.outputs.ingestion_output import open_platform_output
from flair_scoring.outputs.manifest import write_manifest

KEY = b"73656372657420\n"
SECONDS = 40.25  # of ingestion
OWN = "of a container of the submission's own; remove the command from its metadata file"


@pytest.fixture
def res(tmp_path: Path) -> Path:
    """/app/input/res after an ingestion that went well."""
    sign(tmp_path, KEY, verdict="within_limit")
    write_record(tmp_path)
    return tmp_path


def sign(res: Path, key: bytes | None, **timing: Any) -> None:
    (res / "metadata").unlink(missing_ok=True)  # the worker writes it, later
    (res / "timing.json").write_text(json.dumps({**stamp(), "ratio": 1.25, **timing}))
    write_manifest(res, key)


def write_record(res: Path, **fields: Any) -> None:
    record = {
        **{"exitCode": None, "elapsedTime": SECONDS},
        **{"ingestionExitCode": 0, "ingestionElapsedTime": SECONDS},
    }
    (res / "metadata").write_text(yaml.safe_dump(record | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"elapsedTime": None},
        {"exitCode": 0},
        {"exitCode": 0, "elapsedTime": None},
        {"exitCode": 0, "elapsedTime": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("copied", [None, "description: mine"])
def test_a_record_of_ingestion_alone_is_accepted(
    res: Path, fields: dict[str, Any], copied: str | None
) -> None:
    write_record(res, **fields)
    if copied:  # by a worker that puts the submission's files there
        (res / "metadata.yaml").write_text(copied)
    assert open_platform_output(res, KEY).timing["ratio"] == 1.25


def by_signature(key: bytes | None, **timing: Any) -> Callable[[Path], None]:
    def change(res: Path) -> None:
        sign(res, key, **timing)
        write_record(res, exitCode=0)

    return change


def by_record(**fields: Any) -> Callable[[Path], None]:
    return lambda res: write_record(res, **fields)


def by_metadata(content: str) -> Callable[[Path], object]:
    return lambda res: (res / "metadata.yaml").write_text(content)


# What the folder holds -> the error, and a part of its sentence
REFUSED: dict[str, tuple[Callable[[Path], object], type[FlairError], str]] = {
    "a program that failed": (
        by_record(exitCode=1, elapsedTime=3.5),
        PredictionError,
        f"the platform's record has exitCode 1 and elapsedTime 3.5 {OWN}",
    ),
    "a program that was killed": (
        by_record(exitCode=137),
        PredictionError,
        f"exitCode 137 and elapsedTime {SECONDS}",
    ),
    # It can take the command out of its metadata file before ingestion looks, so the signature says nothing
    "a program that went well": (
        by_record(exitCode=0, elapsedTime=3.5),
        PredictionError,
        f"exitCode 0 and elapsedTime 3.5 {OWN}",
    ),
    "a program before an ingestion without a time": (
        by_record(exitCode=0, elapsedTime=3.5, ingestionElapsedTime=None),
        PredictionError,
        f"exitCode 0 and elapsedTime 3.5 {OWN}",
    ),
    "an exit code that is none": (by_record(exitCode=False), PredictionError, "exitCode False and"),
    "an exit code in words": (by_record(exitCode="0"), PredictionError, "exitCode '0' and"),
    "a forged signature": (
        by_signature(b"guessed", verdict="within_limit"),
        PredictionError,
        "wrong signature",
    ),
    "no signature": (by_signature(None, verdict="within_limit"), PredictionError, "not signed"),
    "too slow": (
        by_signature(KEY, verdict="over_limit", reason="3 x"),
        TimeLimitError,
        "over the time limit: 3 x",
    ),
    "refused": (by_signature(KEY, verdict="failed", reason="no"), PredictionError, "ingestion failed: no"),
    "the submission's file over the record": (
        by_record(command="python3 forge.py"),
        PredictionError,
        "metadata: has a command, as the worker's record never has",
    ),
    "the submission's file beside the record": (
        by_metadata("command: python3 forge.py"),
        PredictionError,
        "metadata.yaml: has a command, so the submission had a container of its own; remove the command",
    ),
    "a file beside the record that only the worker can read": (
        by_metadata("a: &a {command: python3 forge.py}\n<<: *a"),
        PredictionError,
        "metadata.yaml: is not the short YAML mapping that ingestion accepts",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_ingestions_alone_is_refused(res: Path, name: str) -> None:
    change, error, sentence = REFUSED[name]
    change(res)
    with pytest.raises(error) as caught:
        open_platform_output(res, KEY)
    assert sentence in str(caught.value)


def test_ingestions_own_reason_comes_before_that_of_a_copied_file(res: Path) -> None:
    """A worker has copied the submission's metadata over its record; ingestion has refused the submission."""
    sign(res, KEY, verdict="failed", reason="'metadata' has the name of the record")
    (res / "metadata").write_text("description: mine")
    (res / "metadata.yaml").write_text("command:")
    with pytest.raises(PredictionError, match="ingestion failed: 'metadata' has the name of the record"):
        open_platform_output(res, KEY)
