"""The plan of a submission: which trained models, views and weights give the best mIoU within the time limit.

It imports flair_baseline.model, packaging and evaluation. starting_kit/ and benchmarks/ may import it.
"""
