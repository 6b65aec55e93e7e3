"""Training: loop, learner, losses, validation, and the folder and the history of a run.

It imports flair_baseline.samples, machines, model, config, checkpoint and encoders. The other modules of
flair_baseline, starting_kit/ and benchmarks/ may import it.
"""
