"""The score: labels, confusion matrix, metrics, reports. Needs no torch; imported by everything above it."""

from flair_scoring.confusion import confusion_matrix
from flair_scoring.evaluation import Evaluation, evaluate
from flair_scoring.metrics import iou, mean_iou

__all__ = ["Evaluation", "confusion_matrix", "evaluate", "iou", "mean_iou"]
