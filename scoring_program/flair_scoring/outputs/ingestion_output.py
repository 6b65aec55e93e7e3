"""What ingestion hands to scoring: predictions, timing.json and, on the platform, proof that it completed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.bounded_yaml import parse_strangers_yaml
from flair_scoring.base.errors import DataError, PredictionError, TimeLimitError
from flair_scoring.base.files import read_file
from flair_scoring.base.provenance import check_stamp
from flair_scoring.base.terminal import one_line
from flair_scoring.outputs.manifest import verify_manifest

TIMING = "timing.json"
_RECORD = "metadata"  # the platform's worker writes it
_RECORD_BYTES = 1 << 16  # the most that it, or a metadata.yaml, may have
_TIMING_BYTES = 16 << 20  # the most that timing.json may have: about 20 for each request
_MOST = 1e12  # the highest value of a number in timing.json, in its unit
_MAX_TEXT = 4000  # characters of the verdict and of the reason that are kept
_EARLIER_KEYS = {"cage": "sandbox"}  # name of a key in timing.json of kit 0.1.0 -> its name now
_NUMBERS = (
    "inference_seconds",
    "reference_seconds",
    "floor_seconds",
    "ratio",
    "limit_ratio",
    "limit_seconds",
    "requests",
)


@dataclass(frozen=True)
class IngestionOutput:
    """Where the predictions are (a folder, or a list of paths), the content of timing.json, and its path.

    For predictions that were made without ingestion `timing` is empty and `timing_file` is None.
    """

    predictions: Path | list[str]
    timing: dict[str, Any]
    timing_file: Path | None


def open_output(folder: Path) -> IngestionOutput:
    """The output of ingestion, or any other folder with predictions.

    Raises TimeLimitError or PredictionError with ingestion's reason if its verdict is not `within_limit`.
    """
    if not (folder / TIMING).is_file():
        return IngestionOutput(folder, {}, None)
    timing = read_timing(folder)
    _require_within_limit(timing)
    predictions = folder / "predictions"
    return IngestionOutput(predictions if predictions.is_dir() else folder, timing, folder / TIMING)


def open_platform_output(folder: Path, key: bytes) -> IngestionOutput:
    """The output of ingestion on the platform: only the files that a signed manifest names.

    Files that a submission has put there do not count. Raises PredictionError or TimeLimitError with the
    reason if ingestion failed, or if the submission ran in a container of its own.
    """
    _require_success(folder, key)
    _require_no_command(folder / "metadata.yaml")
    files, timing = read_signed_timing(folder, key)
    _require_within_limit(timing)
    predictions = [str(folder / name) for name in files if name.startswith("predictions/")]
    return IngestionOutput(predictions, timing, folder / TIMING)


def read_signed_timing(folder: Path, key: bytes) -> tuple[list[str], dict[str, Any]]:
    """The file names in a manifest that is signed with `key`, and the content of timing.json.

    Raises PredictionError with the reason if the manifest is not as ingestion wrote it, or if it does not
    name timing.json.
    """
    files = verify_manifest(folder, key)["files"]
    if TIMING not in files:
        raise PredictionError(f"{folder}: the manifest does not name {TIMING}; run ingestion to its end")
    return list(files), read_timing(folder)


def read_timing(folder: Path) -> dict[str, Any]:
    """The content of timing.json in `folder`; its verdict and reason are safe to print on a terminal.

    Keys that an earlier version named otherwise have the names of this version.

    Raises PredictionError if the file is missing or damaged, DataError if it has another schema.
    """
    path = folder / TIMING
    try:
        timing = read_json(path, _TIMING_BYTES)
    except (OSError, ValueError):
        timing = None
    if not isinstance(timing, dict):
        raise PredictionError(f"{path}: missing or damaged; run ingestion again")
    check_stamp(timing, path)
    wrong = [name for name in _NUMBERS if timing.get(name) is not None and not _is_amount(timing[name])]
    if wrong:
        raise PredictionError(
            f"{path}: {', '.join(wrong)} must be numbers or null, from 0 to {_MOST:g}; run ingestion again"
        )
    if not isinstance(timing.get("requests") or 0, int):
        raise PredictionError(f"{path}: requests must be a whole number; run ingestion again")
    latencies = timing.get("latencies_ms") or []
    if not isinstance(latencies, list) or not all(map(_is_amount, latencies)):
        raise PredictionError(
            f"{path}: latencies_ms must be a list of numbers from 0 to {_MOST:g}; run ingestion again"
        )
    for name in ("verdict", "reason"):
        if not isinstance(timing.get(name), str | None):
            raise PredictionError(f"{path}: {name} must be a text or null; run ingestion again")
        if timing.get(name):
            timing[name] = one_line(timing[name][:_MAX_TEXT])
    for earlier in _EARLIER_KEYS.keys() & timing.keys():
        timing[_EARLIER_KEYS[earlier]] = timing.pop(earlier)
    return timing


def _is_amount(value: Any) -> bool:
    """Whether a value is a number from 0 to `_MOST`, so that sums and products of it stay finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def _require_within_limit(timing: dict[str, Any]) -> None:
    verdict = timing.get("verdict")
    reason = timing.get("reason") or f"its {TIMING} gives no reason and the verdict {verdict!r}"
    if verdict == "over_limit":
        raise TimeLimitError(f"over the time limit: {reason}")
    if verdict != "within_limit":
        raise PredictionError(f"ingestion failed: {reason}")


def _require_success(folder: Path, key: bytes) -> None:
    """Check the worker's own record: ingestion must have ended with exit code 0, and nothing else run."""
    path = folder / _RECORD
    record = _read_mapping(path)
    if record is None:
        raise PredictionError(f"{path}: missing or damaged; the platform's worker writes it after ingestion")
    if "command" in record:
        raise PredictionError(
            f"{path}: has a command, as the worker's record never has; leave a file of this name out of the "
            "submission"
        )
    if not _is_of_ingestion_alone(record):
        raise PredictionError(
            f"the platform's record has exitCode {record['exitCode']!r:.60} and elapsedTime "
            f"{record.get('elapsedTime')!r:.60} of a container of the submission's own; remove the command "
            "from its metadata file: only ingestion may run it"
        )
    code = record.get("ingestionExitCode")
    if code != 0 or isinstance(code, bool):
        try:
            _, timing = read_signed_timing(folder, key)
        except (PredictionError, DataError):  # ingestion did not start: these are others' files
            timing = {"verdict": "within_limit"}
        _require_within_limit(timing)
        raise PredictionError(f"ingestion ended with exit code {code!r:.60}; its log says why")


def _is_of_ingestion_alone(record: dict[str, Any]) -> bool:
    """Whether only ingestion ran, by the worker's record.

    In that case the worker records the exit code null. Some of its versions record 0, with no time or with
    that of ingestion. A program of the submission's own would have an exit code and a time of its own.
    Ingestion's signature does not prove that there was no such program: it would run first, and could remove
    its command from the metadata file before ingestion looks for one.
    """
    code, seconds = record.get("exitCode"), record.get("elapsedTime")
    if code is None:
        return True
    return (
        code == 0
        and not isinstance(code, bool)
        and (not seconds or seconds == record.get("ingestionElapsedTime"))
    )


def _require_no_command(path: Path) -> None:
    """Check the submission's metadata.yaml, which some workers copy beside the results for scoring."""
    if not path.exists():
        return
    metadata = _read_mapping(path)
    if metadata is None:
        raise PredictionError(
            f"{path}: is not the short YAML mapping that ingestion accepts; write 'description: ...' or "
            "leave it out"
        )
    if "command" in metadata:
        raise PredictionError(
            f"{path}: has a command, so the submission had a container of its own; remove the command: only "
            "ingestion may run the submission"
        )


def _read_mapping(path: Path) -> dict[str, Any] | None:
    """The content of a short YAML file; None if it is missing, damaged, or no mapping."""
    try:
        content = parse_strangers_yaml(read_file(path, _RECORD_BYTES))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
