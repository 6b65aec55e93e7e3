"""The toy data set: made-up landscapes in the folders, names and formats of FLAIR #2.

Imports flair_scoring only, and no torch. make_toy_dataset.py, tests and benchmarks may import it.
"""
