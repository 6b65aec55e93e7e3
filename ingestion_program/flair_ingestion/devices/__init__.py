"""The device that a submission runs on: which one it is, how it runs, who else uses it, and
which processors it has.

It imports flair_scoring, flair_ingestion.clock and flair_ingestion.sandbox. The modules above it in
flair_ingestion may import it; the sandbox does not.
"""
