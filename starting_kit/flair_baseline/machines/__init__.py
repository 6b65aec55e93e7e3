"""The machine of a run: its device, its ranks, its failures and interruptions.

It imports nothing else of flair_baseline. The other modules of flair_baseline, starting_kit/ and benchmarks/
may import it.
"""
