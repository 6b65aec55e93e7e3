"""Many results: reading them, which ones count, their order, and which differences are more than chance.

Imports flair_scoring.outputs and what lies below it. flair_scoring.report, rank.py, benchmarks/ and bundle/
may import it.
"""
