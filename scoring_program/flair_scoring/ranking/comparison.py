"""The difference between one result and another one that was scored on the same references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flair_scoring import metrics
from flair_scoring.base.errors import DataError, UsageError, list_names
from flair_scoring.base.terminal import one_line
from flair_scoring.evaluation import Evaluation
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.matrices import read_domain_matrices
from flair_scoring.ranking.permutation import MIN_DOMAINS, permutation_test
from flair_scoring.ranking.references import list_changed_domains
from flair_scoring.ranking.results import Result

_ADVICE = "--compare expects a results folder of score.py or evaluate.py"
_FEWEST = 3  # domains of an interval


@dataclass(frozen=True)
class Figures:
    """A figure of a class or of a domain in this result and in the other one; NaN where it is undefined."""

    name: str
    own: float
    other: float

    @property
    def difference(self) -> float:
        """This result's figure minus the other's."""
        return self.own - self.other


@dataclass(frozen=True)
class Comparison:
    """This result against the other one, which is called `name`.

    `total` are the mIoUs, `classes` the IoUs of each scored class, `domains` the mIoUs of each domain, in
    their order; `domains` is empty if the patches have none. `interval` is
    the 95 % interval of the difference in mIoU for new domains, None below 3 domains. `p_value` is that of
    the permutation test, None below 6 domains.
    """

    name: str
    total: Figures
    classes: list[Figures]
    domains: list[Figures]
    interval: tuple[float, float] | None
    p_value: float | None

    @property
    def only_one_has(self) -> list[str]:
        """Classes that occur in no reference, and in the predictions of only one of the two."""
        return [row.name for row in self.classes if np.isnan(row.own) != np.isnan(row.other)]


def read_other(path: Path) -> Result:
    """The result to compare with: a results folder, or the confusion.npz in it.

    It may be of either kind, with a matrix for each patch or for each domain. Raises UsageError if there is
    no such folder or no confusion.npz in it, and DataError if that is damaged.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such folder; {_ADVICE}")
    file = path / MATRICES if path.is_dir() else path
    if path.is_file() and path.suffix != ".npz":
        raise UsageError(f"{path}: is a file, and not a {MATRICES}; {_ADVICE}")
    if not file.exists():
        raise UsageError(f"{path}: holds no {MATRICES}; {_ADVICE}")
    domains, checksums = read_domain_matrices(file)
    return Result(one_line(file.resolve().parent.name), {}, {}, domains, checksums=checksums)


def compare(evaluation: Evaluation, other: Result) -> Comparison:
    """Compare an evaluation with what `read_other` has read.

    The interval and the test pair the results domain by domain. Raises DataError if the other result scores
    other classes, or was scored on other references.
    """
    own = Result("", {}, {}, evaluation.domain_matrices, checksums=evaluation.domain_checksums)
    classes, others = len(evaluation.matrix) - 1, len(next(iter(other.domains.values()))) - 1
    if classes != others:
        raise DataError(
            f"{other.name}: scores {others} classes, and this result {classes}; compare results of one "
            "nomenclature"
        )
    if changed := list_changed_domains(own, other):
        named_ones = [domain for domain in changed if domain]
        where = f", which differ in {list_names(named_ones, 5)}" if named_ones else ""
        raise DataError(
            f"{other.name}: was scored on other references than this result{where}; score both on the same "
            "references"
        )
    ours, theirs = (np.stack([*result.domains.values()]) for result in (own, other))
    total, their_total = ours.sum(axis=0), theirs.sum(axis=0)
    names = evaluation.nomenclature.classes
    pairs = zip(names, metrics.iou(total), metrics.iou(their_total), strict=True)
    named = "" not in own.domains
    return Comparison(
        name=other.name,
        total=Figures("mIoU", metrics.mean_iou(total), metrics.mean_iou(their_total)),
        classes=[Figures(name, float(one), float(another)) for name, one, another in pairs],
        domains=[
            Figures(domain, metrics.mean_iou(one), metrics.mean_iou(another))
            for domain, one, another in zip(own.domains, ours, theirs, strict=True)
            if named
        ],
        interval=_interval(ours, theirs) if named and len(ours) >= _FEWEST else None,
        p_value=permutation_test(ours, theirs) if named and len(ours) >= MIN_DOMAINS else None,
    )


def _interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the difference in mIoU for new domains, by the jackknife; matrices (D, K+1, K+1)."""
    total, their_total = ours.sum(axis=0), theirs.sum(axis=0)
    replicates = np.array(
        [
            metrics.mean_iou(total - one) - metrics.mean_iou(their_total - another)
            for one, another in zip(ours, theirs, strict=True)
        ]
    )
    if np.isnan(replicates).any():
        return None
    centre = metrics.mean_iou(total) - metrics.mean_iou(their_total)
    reach = metrics.jackknife_reach(replicates)
    return centre - reach, centre + reach
