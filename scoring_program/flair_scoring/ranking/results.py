"""Reading results: folders that score.py has written, checked before they are ranked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import DataError, FlairError, UsageError, list_names, list_problems
from flair_scoring.base.terminal import one_line
from flair_scoring.metrics import mean_iou
from flair_scoring.outputs.ingestion_output import TIMING, read_timing
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import read_domain_matrices
from flair_scoring.writing import SCORES

_ROUNDING = 1e-9
_READERS = 2  # threads; each of them holds the matrices of one result in memory
_SCORES_BYTES = 1 << 16
# Keys of scores.json: times, with the highest value that is accepted, and names of shares from 0 to 1
_TIMES = {"time_ratio": 1e12, "inference_seconds": 1e12}
_SHARE = re.compile(r"miou|miou_low|miou_high|overall_accuracy|iou_[a-z0-9_]{1,60}", re.ASCII)


@dataclass(frozen=True)
class Result:
    """One result folder.

    `scores` is scores.json, empty if there is no score. `timing` is timing.json, empty if there is none.
    `domains` has the confusion matrix of each domain, int64 (K+1, K+1); it is empty without confusion.npz, or
    if the patches have no domains. `left_out` is the reason why the result is listed and not ranked.
    """

    name: str
    scores: dict[str, float]
    timing: dict[str, Any]
    domains: dict[str, np.ndarray]
    left_out: str | None = None


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Read result folders, which `rank_results` and `make_board` can then rank.

    Args:
        folders: Folders that score.py has written. A folder with timing.json and without scores.json is a
            result without a score.

    Returns:
        One result for each folder, in the same order. Its name is the name of the folder, or the whole path
        if several folders have the same name.

    Raises:
        UsageError: A folder is given twice, holds no result, or a file of it cannot be read.
        DataError: A file is damaged, confusion.npz and scores.json belong to different runs, or the results
            score different classes. If several folders have problems, the message lists all of them.
        PredictionError: timing.json is damaged.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "mine"
        >>> folder.mkdir()
        >>> _ = (folder / "scores.json").write_text(json.dumps({"miou": 0.61}))
        >>> read_results([folder])
        [Result(name='mine', scores={'miou': 0.61}, timing={}, domains={}, left_out=None)]
    """
    if twice := [str(folder) for folder, count in Counter(map(Path.resolve, folders)).items() if count > 1]:
        raise UsageError(f"given twice: {list_names(twice)}; name each result once")
    names = [one_line(folder.resolve().name) for folder in folders]
    if len(set(names)) < len(names):
        names = [one_line(str(folder)) for folder in folders]
    with ThreadPoolExecutor(_READERS) as pool:  # decompression runs without the interpreter's lock
        read = list(pool.map(_read_or_fail, folders, names))
    results = [one for one in read if isinstance(one, Result)]
    problems = [one for one in read if isinstance(one, FlairError)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DataError(list_problems("some results cannot be ranked", list(map(str, problems))))
    _require_same_classes([result for result in results if result.scores])
    return results


def _read_or_fail(folder: Path, name: str) -> Result | FlairError:
    try:
        return _read(folder, name)
    except FlairError as error:
        return error


def _read(folder: Path, name: str) -> Result:
    timing = read_timing(folder) if (folder / TIMING).is_file() else {}
    if not (folder / SCORES).is_file():
        if not timing:
            raise UsageError(
                f"{folder}: neither {SCORES} nor {TIMING}; expected a folder that score.py wrote"
            )
        return Result(name, {}, timing, {})
    scores = _read_scores(folder / SCORES)
    domains = read_domain_matrices(folder / MATRICES) if (folder / MATRICES).is_file() else {}
    if domains and not abs(mean_iou(np.sum(list(domains.values()), axis=0)) - scores["miou"]) <= _ROUNDING:
        raise DataError(f"{folder}: {MATRICES} and {SCORES} are of different runs; score again")
    return Result(name, scores, timing, {} if "" in domains else domains)


def _read_scores(path: Path) -> dict[str, float]:
    """Read scores.json; UsageError if that fails, DataError for content that score.py does not write."""
    try:
        scores = read_json(path, _SCORES_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); expected what score.py writes"
        ) from None
    except ValueError:
        scores = None
    whole = (
        isinstance(scores, dict) and "miou" in scores and ("miou_low" in scores) == ("miou_high" in scores)
    )
    if not whole:
        raise DataError(f"{path}: damaged; expected what score.py writes: score the predictions again")
    if unknown := [key for key in scores if key not in _TIMES and not _SHARE.fullmatch(key)]:
        known = f"{', '.join(map(repr, unknown[:5]))}"
        raise DataError(f"{path}: has {known}, which score.py does not write; score the predictions again")
    wrong = [key for key, value in scores.items() if not _is_within(value, _TIMES.get(key, 1.0))]
    if wrong:
        raise DataError(
            f"{path}: {', '.join(wrong[:5])} out of range: expected shares from 0 to 1 and times; score the "
            "predictions again"
        )
    return scores


def _is_within(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _require_same_classes(results: Sequence[Result]) -> None:
    """Raise DataError unless all results have the same keys of classes in scores.json."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        keys = tuple(sorted(key for key in result.scores if key.startswith("iou_")))
        kinds.setdefault(keys, []).append(result.name)
    if len(kinds) > 1:
        named = [f"{len(keys)} classes: {list_names(names)}" for keys, names in kinds.items()]
        title = "the results score different classes; rank those of one nomenclature together"
        raise DataError(list_problems(title, named))
