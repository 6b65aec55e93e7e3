"""The baseline U-T&T: data, model, training. May import flair_ingestion and flair_scoring.

For starting_kit's programs, benchmarks and tests; scoring and ingestion import nothing of it. Packaged
submissions carry copies of the modules that packaging.py lists.
"""
