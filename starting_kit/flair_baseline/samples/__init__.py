"""Samples: patches read for the model, augmented, drawn and put together to batches.

It imports flair_baseline.machines, model and config. flair_baseline.training, starting_kit/ and benchmarks/
may import it.
"""
