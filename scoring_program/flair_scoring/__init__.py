"""The score: rasters of labels, confusion matrices, metrics, evaluation, manifest, ranking, pages.

The ground floor: it imports neither torch nor any other package of the kit. Everything above may import it:
score.py, rank.py, flair_ingestion, flair_baseline, bundle/, benchmarks/. A submission never does.
"""

from flair_scoring.confusion import confusion_matrix
from flair_scoring.evaluation import Evaluation, evaluate
from flair_scoring.metrics import iou, mean_iou

__all__ = ["Evaluation", "confusion_matrix", "evaluate", "iou", "mean_iou"]
