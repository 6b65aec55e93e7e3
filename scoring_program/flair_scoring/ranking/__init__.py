"""The order of many results: which differences are more than chance, and which results count.

Imports flair_scoring.outputs and what lies below it. Pages, rank.py and benchmarks/ may import it.
"""
