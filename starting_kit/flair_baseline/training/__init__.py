"""Training: loader, loop, learner, losses, validation, ranks, and the folder and the history of a run.

It imports flair_baseline.model, config, checkpoint and encoders. The other modules of flair_baseline,
starting_kit/ and benchmarks/ may import it.
"""
