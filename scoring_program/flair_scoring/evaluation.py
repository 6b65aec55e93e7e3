"""A folder of predictions against a folder of references: one confusion matrix per patch.

Either every reference has exactly one valid prediction, or there is no score: a missing, extra, doubled or
damaged file and any value that is no class index refuse the whole evaluation, with all problems listed.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.errors import DataError, PredictionError, UsageError, list_problems
from flair_scoring.counting import Counts, count_pairs
from flair_scoring.metrics import iou, jackknife_interval, mean_iou
from flair_scoring.nomenclature import FLAIR_12, Nomenclature
from flair_scoring.pairing import (
    PREDICTION,
    REFERENCE,
    Rasters,
    domain_and_area,
    find_rasters,
    list_files,
    select_references,
)
from flair_scoring.value_mistakes import describe_value_mistakes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Confusion matrices, uint32 (N, K+1, K+1), of N patches in id order, and where the patches lie.

    `domains` and `areas` are "" where the reference's path names none. `notes` say what was unusual.
    `reference_checksums`, uint32 (N,), are the CRC-32 of the FLAIR values of each reference, (512, 512) uint8
    row by row; None for an evaluation of an older version of the kit.
    """

    nomenclature: Nomenclature
    ids: tuple[str, ...]
    domains: tuple[str, ...]
    areas: tuple[str, ...]
    matrices: np.ndarray
    notes: tuple[str, ...] = ()
    reference_checksums: np.ndarray | None = None

    @property
    def matrix(self) -> np.ndarray:
        """Sum over all patches, int64 (K+1, K+1)."""
        return self.matrices.sum(axis=0, dtype=np.int64)

    @property
    def iou(self) -> np.ndarray:
        """IoU per scored class, float64 (K,); NaN for a class that does not occur."""
        return iou(self.matrix)

    @property
    def miou(self) -> float:
        """Mean IoU over the scored classes that occur: the score."""
        return mean_iou(self.matrix)

    @property
    def domain_matrices(self) -> dict[str, np.ndarray]:
        """Sum over the patches of each domain, int64 (K+1, K+1), in domain order."""
        domains = np.array(self.domains)
        return {
            domain: self.matrices[domains == domain].sum(axis=0, dtype=np.int64)
            for domain in sorted(set(self.domains))
        }

    @property
    def domain_checksums(self) -> dict[str, int]:
        """CRC-32 of the references of each domain, in domain order; empty without `reference_checksums`.

        It is taken over all patches in id order: of each the 6 digits of its id, then its checksum as 4
        bytes, lowest first. So other masks, exchanged masks and another set of patches change it.
        """
        if self.reference_checksums is None:
            return {}
        rows = np.empty(len(self.ids), [("id", "S6"), ("checksum", "<u4")])
        rows["id"], rows["checksum"] = self.ids, self.reference_checksums
        order = np.argsort(rows["id"])
        rows, domains = rows[order], np.array(self.domains)[order]
        return {domain: zlib.crc32(rows[domains == domain].tobytes()) for domain in sorted(set(self.domains))}

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mIoU for new domains; None below 3 domains or where patches have none."""
        matrices = self.domain_matrices
        return None if "" in matrices else jackknife_interval(np.stack(list(matrices.values())))


def evaluate(
    predictions: str | Path | Sequence[str | Path],
    references: str | Path,
    nomenclature: Nomenclature = FLAIR_12,
    ids: Collection[str] | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare `PRED_<id>.tif` (class indices) with `MSK_<id>.tif` (FLAIR values), each below its folder.

    Instead of their folder, `predictions` may be a list of paths. `ids` restricts which references count.
    `jobs` is the number of processes, by default the cores. Raises PredictionError or DataError with all
    problems found, UsageError for an argument of another kind.
    """
    _check_arguments(predictions, references, nomenclature, ids)
    files = list_files(predictions) if isinstance(predictions, str | Path) else list(map(str, predictions))
    given, known = find_rasters(files, PREDICTION), find_rasters(list_files(references), REFERENCE)
    wanted = select_references(known, ids, references)
    pairs = [(path, given.paths[id]) for id, path in wanted.items() if id in given.paths]
    counts = count_pairs(pairs, nomenclature, jobs, progress)
    if counts.reference_problems:
        raise DataError(list_problems(f"{references}: references are damaged", counts.reference_problems))
    _check_predictions(given, wanted, known.paths, counts)

    folders = [domain_and_area(path) for path in wanted.values()]
    evaluation = Evaluation(
        nomenclature=nomenclature,
        ids=tuple(wanted),
        domains=tuple(domain for domain, _ in folders),
        areas=tuple(area for _, area in folders),
        matrices=np.stack(counts.matrices),
        notes=tuple(_notes(given, wanted, known, counts, nomenclature)),
        reference_checksums=np.array(counts.reference_checksums, np.uint32),
    )
    if np.isnan(evaluation.miou):
        raise DataError(f"{references}: all pixels are *other*; the mIoU needs at least one scored class")
    return evaluation


def _check_arguments(predictions: Any, references: Any, nomenclature: Any, ids: Any) -> None:
    """Raises UsageError for arguments that do not have the types that `evaluate` names."""
    arrays = "; two arrays are compared by flair_scoring.confusion_matrix"
    if not isinstance(predictions, str | Path | Sequence):
        raise UsageError(
            f"predictions is of type {_type(predictions)}; expected a folder or a list of paths{arrays}"
        )
    if not isinstance(references, str | Path):
        raise UsageError(f"references is of type {_type(references)}; expected a folder{arrays}")
    others = (
        []
        if isinstance(predictions, str | Path)
        else [p for p in predictions if not isinstance(p, str | Path)]
    )
    if others:
        raise UsageError(f"predictions holds {_type(others[0])}; expected paths{arrays}")
    if not isinstance(nomenclature, Nomenclature):
        raise UsageError(
            f"nomenclature is of type {_type(nomenclature)}; expected a Nomenclature, such as "
            "flair_scoring.nomenclature.FLAIR_12"
        )
    if ids is not None and (isinstance(ids, str | Path) or not isinstance(ids, Collection)):
        raise UsageError(f"ids is of type {_type(ids)}; expected a list of 6-digit ids")
    if texts := [id for id in ids or () if not isinstance(id, str)]:
        raise UsageError(f"ids holds {texts[0]!r}; expected texts of 6 digits, such as '077413'")


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _check_predictions(
    given: Rasters, wanted: Collection[str], known: Collection[str], counts: Counts
) -> None:
    problems = {
        "names are wrong or ambiguous": given.problems,
        "predictions are missing": [f"PRED_{id}.tif" for id in wanted if id not in given.paths],
        "predictions have no reference": [path for id, path in given.paths.items() if id not in known],
        "predictions are not label maps": counts.prediction_problems,
    }
    lists = [list_problems(title, found) for title, found in problems.items() if found]
    if lists:
        others = f"\n({given.describe_ignored()})" if given.ignored else ""
        raise PredictionError("\n".join(["no score, the predictions are refused:", *lists]) + others)


def _notes(
    given: Rasters, wanted: Collection[str], known: Rasters, counts: Counts, nomenclature: Nomenclature
) -> Iterator[str]:
    matrix = np.stack(counts.matrices).sum(axis=0, dtype=np.int64)
    yield from describe_value_mistakes(matrix, counts.zeros, nomenclature)
    if len(wanted) < len(known.paths):
        yield (
            f"{len(wanted)} of {len(known.paths)} references count: only the patches that were chosen for "
            "this evaluation are scored."
        )
    if counts.zeros:
        yield f"{counts.zeros} reference pixels hold 0, which is no annotation value; they count as other."
    if given.ignored:
        yield f"Beside the predictions {given.describe_ignored()}."
