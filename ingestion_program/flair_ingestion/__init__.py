"""From data and a submission to timed predictions: index and readers, clock, sandbox, limits, output.

The first floor: it may import flair_scoring. Only runner.py, the child, imports torch. ingest.py,
flair_baseline, starting_kit/, bundle/ and benchmarks/ may import it; a submission never does.
"""
