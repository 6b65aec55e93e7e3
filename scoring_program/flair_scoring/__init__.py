"""Scoring: label rasters, confusion matrices, metrics, evaluation; outputs/, ranking/ and report/ use them.

The package imports neither torch nor another package of the kit. All others may import it, but no submission
does. `__all__` lists what is meant for use from Python.
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
