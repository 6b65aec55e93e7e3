"""The score: rasters of labels, confusion matrices, metrics, evaluation, manifest, ranking, pages.

The ground floor: it imports neither torch nor any other package of the kit. Everything above may import it:
score.py, rank.py, flair_ingestion, flair_baseline, bundle/, benchmarks/. A submission never does.
"""

from flair_scoring.confusion import confusion_matrix
from flair_scoring.evaluation import Evaluation, evaluate
from flair_scoring.metrics import iou, mean_iou
from flair_scoring.nomenclature import COSIA_16, FLAIR_12, FLAIR_18, Nomenclature

__all__ = [
    "COSIA_16",
    "FLAIR_12",
    "FLAIR_18",
    "Evaluation",
    "Nomenclature",
    "confusion_matrix",
    "evaluate",
    "iou",
    "mean_iou",
]
