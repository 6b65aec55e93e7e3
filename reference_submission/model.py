"""U-T&T of the FLAIR #2 starting kit; flair_baseline/inference.py holds the code."""

from flair_baseline.inference import Model

__all__ = ["Model"]
