"""Reading results: folders that score.py has written, checked before they are ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.errors import DataError, FlairError, UsageError, list_names, list_problems
from flair_scoring.base.files import require_folder
from flair_scoring.base.terminal import one_line
from flair_scoring.metrics import mean_iou
from flair_scoring.outputs.ingestion_output import TIMING, read_timing
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import read_domain_matrices
from flair_scoring.outputs.scores import NAME as SCORES
from flair_scoring.outputs.scores import read_scores

_ROUNDING = 1e-9
_READERS = 2  # threads; each of them holds the matrices of one result in memory


@dataclass(frozen=True)
class Result:
    """One result folder.

    `scores` is scores.json, empty if there is no score. `timing` is timing.json, empty if there is none.
    `domains` has the confusion matrix of each domain, int64 (K+1, K+1); it is empty without confusion.npz, or
    if the patches have no domains. `left_out` is the reason why the result is listed and not ranked.
    `checksums` has the checksum of the references of each domain; it is empty without domains, or if an older
    version of the kit has scored.
    """

    name: str
    scores: dict[str, float]
    timing: dict[str, Any]
    domains: dict[str, np.ndarray]
    left_out: str | None = None
    checksums: dict[str, int] = field(default_factory=dict)


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
        >>> from pathlib import Path
        >>> from flair_scoring.ranking.results import read_results
        >>> folder = Path(tempfile.mkdtemp()) / "mine"
        >>> folder.mkdir()
        >>> _ = (folder / "scores.json").write_text(json.dumps({"miou": 0.61}))
        >>> read_results([folder])
        [Result(name='mine', scores={'miou': 0.61}, timing={}, domains={}, left_out=None, checksums={})]
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
    require_folder(folder, "the output of score.py")
    timing = read_timing(folder) if (folder / TIMING).is_file() else {}
    if not (folder / SCORES).is_file():
        if not timing:
            raise UsageError(
                f"{folder}: neither {SCORES} nor {TIMING}; expected a folder that score.py wrote"
            )
        return Result(name, {}, timing, {})
    scores = read_scores(folder / SCORES)
    file = folder / MATRICES
    domains, checksums = read_domain_matrices(file) if file.is_file() else ({}, {})
    if domains and not abs(mean_iou(np.sum(list(domains.values()), axis=0)) - scores["miou"]) <= _ROUNDING:
        raise DataError(f"{folder}: {MATRICES} and {SCORES} are of different runs; score again")
    if "" in domains:
        return Result(name, scores, timing, {})
    return Result(name, scores, timing, domains, checksums=checksums)


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
