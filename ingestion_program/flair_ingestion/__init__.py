"""From data and a submission to timed predictions. May import flair_scoring; imports no torch."""
