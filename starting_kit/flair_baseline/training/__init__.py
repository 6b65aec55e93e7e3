"""Training: the loop, the learner, the loader, losses, validation, several ranks, the course of a run.

Imports flair_baseline.model, configurations and checkpoints. starting_kit/ and benchmarks/ may import it.
"""
