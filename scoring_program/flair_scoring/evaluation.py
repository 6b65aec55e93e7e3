"""A folder of predictions against a folder of references: one confusion matrix per patch.

There is a score only if every reference has exactly one valid prediction. A missing, extra, doubled or
damaged file and any value that is no class index refuse the whole evaluation; the error lists all problems.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_scoring.base.errors import DataError, PredictionError, UsageError, list_problems
from flair_scoring.counting import Counts, count_pairs
from flair_scoring.metrics import f1, iou, jackknife_interval, mean_iou, precision, recall
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

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`: the confusion matrix of each of N patches, and the figures made of them.

    Args:
        nomenclature: The K scored classes.
        ids: The patches' ids of 6 digits, sorted.
        domains: The domain of each patch, such as "D022_2021"; "" if the path of its reference names none.
        areas: The area of each patch, such as "Z12_UN"; "" if the path of its reference names none.
        matrices: Confusion matrices, uint32 (N, K+1, K+1): rows are the reference, columns the prediction.
        notes: Sentences about what was unusual.
        reference_checksums: uint32 (N,), the CRC-32 of the FLAIR values in each reference, row by row. None
            in the evaluation of an older version of the kit.
        pairs: The paths of reference and prediction of each patch. Empty if the matrices were read from a
            file, which holds no paths.

    Example:
        >>> import numpy as np
        >>> from flair_scoring import FLAIR_12, Evaluation
        >>> matrix = np.zeros((13, 13), np.uint32)
        >>> matrix[4, 4], matrix[4, 0] = 300, 100  # of 400 pixels of water, 100 were taken for building
        >>> found = Evaluation(FLAIR_12, ("077413",), ("D022_2021",), ("Z12_UN",), matrix[None])
        >>> found.miou  # the mean of building, 0 of 100, and water, 300 of 400; the others do not occur
        0.375
        >>> found.per_class().loc["water", ["iou", "precision", "recall"]].tolist()
        [0.75, 1.0, 0.75]
    """

    nomenclature: Nomenclature
    ids: tuple[str, ...]
    domains: tuple[str, ...]
    areas: tuple[str, ...]
    matrices: np.ndarray
    notes: tuple[str, ...] = ()
    reference_checksums: np.ndarray | None = None
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def matrix(self) -> np.ndarray:
        """Sum over all patches, int64 (K+1, K+1)."""
        return self.matrices.sum(axis=0, dtype=np.int64)

    @property
    def iou(self) -> np.ndarray:
        """IoU of each scored class, float64 (K,); NaN for a class that does not occur."""
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
        """One CRC-32 for the references of each domain, in domain order; empty without `reference_checksums`.

        It covers the patches of the domain in the order of their ids: the 6 digits of the id, then the
        checksum of the reference as 4 bytes, lowest byte first. It changes if a reference changes, if two
        references are exchanged, or if a patch is added or missing.
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
        """95 % interval of the mIoU for new domains; None below 3 domains, or if a patch has no domain."""
        matrices = self.domain_matrices
        return None if "" in matrices else jackknife_interval(np.stack(list(matrices.values())))

    def per_class(self) -> pd.DataFrame:
        """The table of the classes.

        Returns:
            A row for each scored class and a last one for *other*, with the name as index. The columns `iou`,
            `precision`, `recall` and `f1` are float64, NaN where undefined and for *other*, which has no
            metrics. `correct_pixels`, `reference_pixels` and `predicted_pixels` are int64.

        Example:
            >>> import numpy as np
            >>> from flair_scoring import FLAIR_12, Evaluation
            >>> matrices = np.eye(13, dtype=np.uint32)[None]
            >>> table = Evaluation(FLAIR_12, ("077413",), ("",), ("",), matrices).per_class()
            >>> table.loc["building", ["iou", "f1", "reference_pixels"]].tolist()
            [1.0, 1.0, 1.0]
        """
        import pandas as pd  # takes 0.2 s, which those who need no table shall not wait

        matrix = self.matrix
        metrics = {"iou": iou, "precision": precision, "recall": recall, "f1": f1}
        columns = {name: np.append(metric(matrix), np.nan) for name, metric in metrics.items()}
        columns |= {
            "correct_pixels": np.diagonal(matrix),
            "reference_pixels": matrix.sum(axis=1),
            "predicted_pixels": matrix.sum(axis=0),
        }
        return pd.DataFrame(columns, index=pd.Index(self.nomenclature.classes_with_other, name="class"))


def evaluate(
    predictions: str | Path | Sequence[str | Path],
    references: str | Path,
    nomenclature: Nomenclature = FLAIR_12,
    ids: Collection[str] | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare a folder of predictions with a folder of references.

    Args:
        predictions: A folder with files PRED_<6 digits>.tif at any depth, or a list of their paths. They hold
            class indices 0..K: uint8, one band, 512 x 512 pixels.
        references: A folder with files MSK_<6 digits>.tif at any depth. They hold FLAIR's annotation values.
        nomenclature: The scored classes.
        ids: Ids of 6 digits. Only these references count; by default all do.
        jobs: The number of processes; by default one for each processor core.
        progress: Show a bar, if stderr is a terminal.

    Returns:
        An Evaluation: confusion matrices, mIoU, IoU of each class, and a table of the classes.

    Raises:
        PredictionError: Predictions are missing, damaged, doubled or have no reference. It lists all of them.
        DataError: References are missing, damaged or doubled, or no pixel belongs to a scored class.
        UsageError: An argument is of another type, a folder does not exist, or a process was killed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from flair_scoring import evaluate
        >>> from flair_scoring.raster import write_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/MSK_077413.tif", np.full((512, 512), 5, np.uint8))  # water
        ...     write_labels(f"{folder}/PRED_077413.tif", np.full((512, 512), 4, np.uint8))  # its index
        ...     found = evaluate(folder, folder)
        >>> found.ids, found.miou
        (('077413',), 1.0)
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
        pairs=tuple(pairs),
        reference_checksums=np.array(counts.reference_checksums, np.uint32),
    )
    if np.isnan(evaluation.miou):
        raise DataError(f"{references}: all pixels are *other*; the mIoU needs at least one scored class")
    return evaluation


def _check_arguments(predictions: Any, references: Any, nomenclature: Any, ids: Any) -> None:
    """UsageError for an argument of another type than `evaluate` names."""
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
