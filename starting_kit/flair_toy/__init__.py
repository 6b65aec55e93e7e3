"""The made-up data set: FLAIR #2's layout and formats, filled with landscapes that are worth learning.

Imports flair_scoring only, and no torch. make_toy_dataset.py, tests and benchmarks may import it.
"""
